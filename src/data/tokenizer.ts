import { DOCUMENT_END, Gpt2Encoder } from './bpe.js';

/**
 * Converts text to token ids and back. Ids are below `vocabSize` and have at most 16 bits. For every well-formed
 * string, `decode(encode(text)) === text`. Lone surrogates, which UTF-8 cannot hold, come back as U+FFFD.
 */
export interface Tokenizer {
  readonly name: TokenizerName;
  readonly vocabSize: number;
  /** The separator between the documents of a folder: `<|endoftext|>` for GPT-2, a newline for bytes. */
  readonly documentSeparator: string;
  encode(text: string): number[];
  /** Invalid UTF-8 becomes U+FFFD, and so do ids that are not tokens (a model may have a padded vocabulary). */
  decode(ids: Iterable<number>): string;
  /** A decoder that takes ids one by one and holds back the bytes of an incomplete character. */
  streamDecoder(): StreamDecoder;
  /**
   * A late index i at which a text can be cut: for well-formed `text` and any well-formed `more`, `encode(text + more)`
   * is `encode(text[:i])` followed by `encode(text[i:] + more)`. 0 where none is known.
   */
  lastCut(text: string): number;
}

export interface StreamDecoder {
  /** The characters that `id` completes, possibly none. */
  push(id: number): string;
  /** The rest: U+FFFD for an incomplete character, else an empty text. */
  end(): string;
}

export type TokenizerName = 'gpt2' | 'bytes';

/** Loads the tokenizer called `name`. GPT-2's vocabulary is loaded only when asked for. */
export async function loadTokenizer(name: TokenizerName): Promise<Tokenizer> {
  return name === 'gpt2' ? gpt2Tokenizer() : bytesTokenizer();
}

async function gpt2Tokenizer(): Promise<Tokenizer> {
  const { default: vocabulary } = await import('gpt-tokenizer/bpeRanks/r50k_base');
  const encoder = new Gpt2Encoder(vocabulary);
  return {
    name: 'gpt2',
    vocabSize: encoder.vocabSize,
    documentSeparator: DOCUMENT_END,
    encode: (text) => encoder.encode(text),
    lastCut: (text) => encoder.lastCut(text),
    ...decoding((id) => encoder.bytesOf(id)),
  };
}

function bytesTokenizer(): Tokenizer {
  return {
    name: 'bytes',
    vocabSize: 256,
    documentSeparator: '\n',
    encode: (text) => Array.from(Buffer.from(text, 'utf8')),
    lastCut: (text) => text.length,
    ...decoding((id) => (id < 256 ? String.fromCharCode(id) : undefined)),
  };
}

const NO_TOKEN = Buffer.from('\ufffd', 'utf8').toString('latin1');

/** Both decoders. `bytesOf` gives the bytes of a token as a string with one character a byte. */
function decoding(bytesOf: (id: number) => string | undefined): Pick<Tokenizer, 'decode' | 'streamDecoder'> {
  // A byte order mark is kept, which TextDecoder drops by default.
  const newDecoder = () => new TextDecoder('utf-8', { ignoreBOM: true });
  return {
    decode(ids) {
      let bytes = '';
      for (const id of ids) bytes += bytesOf(id) ?? NO_TOKEN;
      return newDecoder().decode(Buffer.from(bytes, 'latin1'));
    },
    streamDecoder() {
      const decoder = newDecoder();
      return {
        push: (id) => decoder.decode(Buffer.from(bytesOf(id) ?? NO_TOKEN, 'latin1'), { stream: true }),
        end: () => decoder.decode(),
      };
    },
  };
}
