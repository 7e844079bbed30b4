/**
 * An error's message, or a text, in one line: control characters become spaces. Names and values in it may come from
 * anywhere, and a terminal must not obey them.
 */
export function oneLine(said: unknown): string {
  const text = typeof said === 'string' ? said : ((said as Partial<Error> | undefined)?.message ?? String(said));
  return text.replace(/\s*\p{Cc}+\s*/gu, ' ').trim();
}
