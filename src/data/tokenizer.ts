import { DOCUMENT_END, Gpt2Encoder } from './bpe.js';

/**
 * Text to token ids and back. Ids are below `vocabSize`, at most 16 bits wide. For every well-formed string,
 * `decode(encode(text)) === text`; lone surrogates, which UTF-8 cannot hold, come back as U+FFFD.
 */
export interface Tokenizer {
  readonly name: TokenizerName;
  readonly vocabSize: number;
  /** What stands between the documents of a folder: GPT-2's own `<|endoftext|>`, for bytes a newline. */
  readonly documentSeparator: string;
  encode(text: string): number[];
  /** Ids that are no token (a model may have a padded vocabulary) and invalid UTF-8 become U+FFFD. */
  decode(ids: Iterable<number>): string;
  /** A decoder to which ids are handed one by one; it holds back the bytes of an unfinished character. */
  streamDecoder(): StreamDecoder;
  /**
   * A late place i at which a text can be cut: for well-formed `text` and `more`, whatever `more` is,
   * `encode(text + more)` is `encode(text[:i])` followed by `encode(text[i:] + more)`. 0 where none is known.
   */
  lastCut(text: string): number;
}

export interface StreamDecoder {
  /** The characters that `id` completes, possibly none. */
  push(id: number): string;
  /** What an unfinished character leaves: U+FFFD, or nothing. */
  end(): string;
}

export type TokenizerName = 'gpt2' | 'bytes';

/** The tokenizer called `name`. GPT-2's vocabulary is loaded here and not before, so that `bytes` costs nothing. */
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

/** Both ways of decoding, given the bytes of a token as a string of one character a byte. */
function decoding(bytesOf: (id: number) => string | undefined): Pick<Tokenizer, 'decode' | 'streamDecoder'> {
  // A byte order mark is text like any other here: the default of TextDecoder would swallow it.
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
