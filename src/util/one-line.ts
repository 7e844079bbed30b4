/**
 * What an error, or a text, says in one line. Names and values in it come from anywhere, and a terminal is not to obey
 * them: control characters become spaces.
 */
export function oneLine(said: unknown): string {
  const text = typeof said === 'string' ? said : ((said as Partial<Error> | undefined)?.message ?? String(said));
  return text.replace(/\s*\p{Cc}+\s*/gu, ' ').trim();
}
