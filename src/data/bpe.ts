/**
 * GPT-2's byte pair encoding (Radford et al. 2019, section 2.2; openai/gpt-2 `src/encoder.py`) over the vocabulary in
 * the package gpt-tokenizer. The package's own `encode` is not used: it finds `<|endoftext|>` only at the beginning of
 * a text, and takes quadratic time in the length of a run without spaces. Its `decode` keeps half a character in a
 * state that all callers share.
 */
export const DOCUMENT_END = '<|endoftext|>';

/** JavaScript's `\s` includes U+FEFF and lacks U+0085; OpenAI's pattern uses Unicode's white space. */
const PIECES =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

/**
 * Positions where a text can be cut and both sides encoded separately, as an empty match between two characters:
 * - before white space that follows another character. A piece holds white space only as its first character or is all
 *   white space, so no piece crosses such a position. The text before it ends in a non-space, so no look-ahead crosses
 *   it either.
 * - between a letter or digit and a character of another class, for text without spaces: `\p{L}+` and `\p{N}+` end
 *   there anyway. Not before `|`, which may be within `<|endoftext|>`, and never after an apostrophe or similar, which
 *   may begin `'ve`.
 */
const CUTS = /(?<=\P{White_Space})(?=\p{White_Space})|(?<=\p{L})(?=[^|\p{L}])|(?<=\p{N})(?=[^|\p{N}])/gu;

/** Longer pieces are not cached, so that the cache stays small. */
const CACHED_PIECE_LENGTH = 32;
const CACHED_PIECES = 1 << 16;

export class Gpt2Encoder {
  readonly vocabSize: number;
  /** Tokens as strings of one character a byte: good map keys, and cheap to slice. */
  private readonly bytes: string[];
  private readonly ranks = new Map<string, number>();
  private readonly cache = new Map<string, number[]>();

  /** `vocabulary`: the tokens in order of rank, which is their id. Each is a text, or bytes where it is not UTF-8. */
  constructor(vocabulary: readonly (string | number[])[]) {
    this.bytes = vocabulary.map((token) =>
      (typeof token === 'string' ? Buffer.from(token, 'utf8') : Buffer.from(token)).toString('latin1'),
    );
    for (const [rank, bytes] of this.bytes.entries()) this.ranks.set(bytes, rank);
    this.vocabSize = this.bytes.push(DOCUMENT_END);
  }

  /** The bytes of token `id` as a string of one character a byte; undefined for an id that is not a token. */
  bytesOf(id: number): string | undefined {
    return this.bytes[id];
  }

  encode(text: string): number[] {
    const ids: number[] = [];
    for (const [index, part] of text.split(DOCUMENT_END).entries()) {
      if (index > 0) ids.push(this.vocabSize - 1);
      for (const [piece] of part.matchAll(PIECES)) {
        for (const id of this.encodePiece(piece)) ids.push(id);
      }
    }
    return ids;
  }

  lastCut(text: string): number {
    for (let reach = 256; ; reach *= 4) {
      let from = Math.max(0, text.length - reach);
      // Not between two surrogates, which would look like two characters without a class.
      if (from > 0 && text.charCodeAt(from) >= 0xdc00 && text.charCodeAt(from) < 0xe000) from--;
      let cut = 0;
      for (const match of text.slice(from).matchAll(CUTS)) cut = from + match.index;
      if (cut > 0 || from === 0) return cut;
    }
  }

  private encodePiece(piece: string): number[] {
    const known = this.cache.get(piece);
    if (known) return known;
    const bytes = Buffer.from(piece, 'utf8').toString('latin1');
    const whole = this.ranks.get(bytes);
    const ids = whole === undefined ? this.merge(bytes) : [whole];
    if (piece.length <= CACHED_PIECE_LENGTH) {
      if (this.cache.size >= CACHED_PIECES) this.cache.clear();
      this.cache.set(piece, ids);
    }
    return ids;
  }

  /**
   * Merges the adjacent pair of lowest rank, leftmost first, until no pair is a token. A heap of the pairs makes this
   * O(n log n) in the number of bytes, so a megabyte without a space does not block training.
   */
  private merge(bytes: string): number[] {
    const n = bytes.length;
    // Symbol i is bytes[i .. next[i]); rankOf[i] is the rank of symbol i joined with the next one.
    const next = Uint32Array.from({ length: n + 1 }, (_, i) => i + 1);
    const previous = Int32Array.from({ length: n + 1 }, (_, i) => i - 1);
    const rankOf = new Int32Array(n + 1).fill(-1);
    const heap = new MinHeap();
    const rate = (i: number) => {
      rankOf[i] = (next[i] < n ? this.ranks.get(bytes.slice(i, next[next[i]])) : undefined) ?? -1;
      if (rankOf[i] >= 0) heap.push(rankOf[i] * 2 ** 32 + i);
    };
    for (let i = 0; i < n; i++) rate(i);
    for (let key = heap.pop(); key !== undefined; key = heap.pop()) {
      const i = key % 2 ** 32;
      if (rankOf[i] !== Math.floor(key / 2 ** 32)) continue;
      const swallowed = next[i];
      rankOf[swallowed] = -1;
      next[i] = next[swallowed];
      previous[next[i]] = i;
      rate(i);
      if (previous[i] >= 0) rate(previous[i]);
    }
    const ids: number[] = [];
    for (let i = 0; i < n; i = next[i]) ids.push(this.ranks.get(bytes.slice(i, next[i])) as number);
    return ids;
  }
}

/** A binary heap of numbers, smallest first. */
class MinHeap {
  private readonly keys: number[] = [];

  push(key: number): void {
    let i = this.keys.push(key) - 1;
    for (let parent = (i - 1) >> 1; i > 0 && this.keys[parent] > key; parent = (i - 1) >> 1) {
      this.keys[i] = this.keys[parent];
      i = parent;
    }
    this.keys[i] = key;
  }

  pop(): number | undefined {
    const top = this.keys[0];
    const last = this.keys.pop();
    if (this.keys.length === 0 || last === undefined) return top;
    let i = 0;
    for (let child = 1; child < this.keys.length; child = 2 * i + 1) {
      if (child + 1 < this.keys.length && this.keys[child + 1] < this.keys[child]) child++;
      if (this.keys[child] >= last) break;
      this.keys[i] = this.keys[child];
      i = child;
    }
    this.keys[i] = last;
    return top;
  }
}
