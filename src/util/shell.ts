/** The part of a process that tells which shell its commands are typed into. */
export interface ShellSurroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly platform: NodeJS.Platform;
}

export type Shell = 'posix' | 'cmd' | 'powershell';

/** The shell that this process was started from, as far as its environment tells. */
export function shellOf({ env, platform }: ShellSurroundings = process): Shell {
  // Git's bash and similar shells set MSYSTEM.
  if (platform !== 'win32' || env.MSYSTEM !== undefined) return 'posix';
  // PowerShell adds the user's module folder to the machine's two.
  return (env.PSModulePath ?? '').split(';').length > 2 ? 'powershell' : 'cmd';
}

/** A word quoted for a shell where needed. A join URL stays as it is: only zsh gives a meaning to its brackets. */
export function shellQuote(word: string, shell: Shell = shellOf()): string {
  if (/^wss?:\/\/[\w.:-]+\/(#[\w.-]*)?$/.test(word)) return word;
  if (shell === 'posix') return /^[\w@%+:,./-][\w@%+=:,./-]*$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
  // A backslash is common in paths there, and harmless except before a quote.
  const plain = /^[\w+:./\\-][\w+=:./\\-]*$/.test(word);
  if (shell === 'powershell') return plain ? word : `'${word.replaceAll("'", "''")}'`;
  if (plain) return word;
  const quoted = `"${word.replace(/(\\+)(?="|$)/g, '$1$1').replaceAll('"', '""')}"`;
  // Only a caret outside of quotes keeps cmd from expanding %NAME%.
  return /%[^%]+%/.test(word) ? quoted.replaceAll('%', '"^%"') : quoted;
}
