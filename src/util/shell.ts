/** What of a process tells which shell its commands are typed into. */
export interface ShellSurroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly platform: NodeJS.Platform;
}

export type Shell = 'posix' | 'cmd' | 'powershell';

/** The shell that this process was started from, as far as its environment tells. */
export function shellOf({ env, platform }: ShellSurroundings = process): Shell {
  // Git's bash and the like say so.
  if (platform !== 'win32' || env.MSYSTEM !== undefined) return 'posix';
  // PowerShell puts its user's folder of modules before the machine's two.
  return (env.PSModulePath ?? '').split(';').length > 2 ? 'powershell' : 'cmd';
}

/** A word as a shell takes it. A join URL stays as it is: nothing in it means anything to a shell, but brackets to zsh. */
export function shellQuote(word: string, shell: Shell = shellOf()): string {
  if (/^wss?:\/\/[\w.:-]+\/(#[\w.-]*)?$/.test(word)) return word;
  if (shell === 'posix') return /^[\w@%+:,./-][\w@%+=:,./-]*$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
  // A backslash is a part of most paths there, and harmless but before a quote.
  const plain = /^[\w+:./\\-][\w+=:./\\-]*$/.test(word);
  if (shell === 'powershell') return plain ? word : `'${word.replaceAll("'", "''")}'`;
  if (plain) return word;
  const quoted = `"${word.replace(/(\\+)(?="|$)/g, '$1$1').replaceAll('"', '""')}"`;
  // Of %NAME% only a caret outside of the quotes makes a text again.
  return /%[^%]+%/.test(word) ? quoted.replaceAll('%', '"^%"') : quoted;
}
