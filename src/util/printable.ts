/**
 * Makes text of others (names, reasons, samples, paths, servers' answers) safe to show. A terminal obeys control
 * characters. Invisible characters, and those that reverse the direction of writing, let a text pass for another one.
 */

/**
 * Control characters, lone surrogates, line separators, and characters that Unicode says are ignorable. Joiners
 * (U+200C, U+200D) and variation selectors are excluded, because scripts and emoji need them.
 */
const UNSEEN =
  /(?!\u200c|\u200d|\p{Variation_Selector})[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\ufff9-\ufffb]/gu;
const PLAIN = /^[\n\t\x20-\x7e]*$/;

/** UTF-16 units of a line on a terminal: more than the longest path. */
export const LONGEST_LINE = 8192;
/** UTF-16 units of another machine's words within a line. */
export const LONGEST_WORDS = 300;

/** `text` with a visible sign for each invisible character: `␛` for an escape. Line ends and tabs stay. */
export function printable(text: string): string {
  if (PLAIN.test(text)) return text;
  return text.replace(UNSEEN, (c) => (c === '\n' || c === '\t' ? c : signOf(c)));
}

/** As `printable`, in one line, and cut to `most` UTF-16 units. */
export function printableLine(text: string, most: number = LONGEST_LINE): string {
  const cut = text.length > most ? `${text.slice(0, most - 1)}…` : text;
  if (PLAIN.test(cut) && !/[\n\t]/.test(cut)) return cut;
  return cut.replace(UNSEEN, (c) => (c === '\t' ? ' ' : signOf(c)));
}

/** Another machine's words within a line: invisible characters become spaces; cut to `most` UTF-16 units. */
export function printableWords(text: string, most: number = LONGEST_WORDS): string {
  return text.replace(UNSEEN, ' ').replace(/\s+/g, ' ').trim().slice(0, most);
}

/** JSON with invisible characters escaped: safe to print, with the same value. */
export function printableJson(value: unknown): string {
  const escaped = (c: string) =>
    [...Array(c.length).keys()].map((i) => `\\u${c.charCodeAt(i).toString(16).padStart(4, '0')}`).join('');
  const json = JSON.stringify(value);
  return PLAIN.test(json) ? json : json.replace(UNSEEN, escaped);
}

/** Unicode has pictures for control characters below U+0020. */
function signOf(c: string): string {
  const code = c.charCodeAt(0);
  if (code < 0x20) return String.fromCharCode(0x2400 + code);
  return code === 0x7f ? '␡' : '�';
}
