import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { encode as encodeByPackage } from 'gpt-tokenizer/encoding/r50k_base';
import { describe, expect, test } from 'vitest';
import { loadTokenizer, type Tokenizer } from '../../src/data/tokenizer.js';
import { awkwardText } from './helpers.js';

const gpt2 = await loadTokenizer('gpt2');
const bytes = await loadTokenizer('bytes');
const mobyDick = readFileSync(new URL('../../src/data/moby-dick.txt', import.meta.url), 'utf8');

describe.each([gpt2, bytes])('tokenizer $name', (tokenizer: Tokenizer) => {
  test('a tokenizer gives back every well-formed text, from ids below the vocabulary size', () => {
    fc.assert(
      fc.property(awkwardText, (text) => {
        const ids = tokenizer.encode(text);
        expect(ids.every((id) => id >= 0 && id < tokenizer.vocabSize)).toBe(true);
        expect(tokenizer.decode(ids)).toBe(text);
      }),
      { numRuns: 500 },
    );
  });

  test('a tokenizer decodes ids handed one by one to the same text, whole characters only', () => {
    fc.assert(
      fc.property(awkwardText, (text) => {
        const decoder = tokenizer.streamDecoder();
        const parts = tokenizer.encode(text).map((id) => decoder.push(id));
        expect(parts.every((part) => Buffer.from(part, 'utf8').toString('utf8') === part)).toBe(true);
        expect(parts.join('') + decoder.end()).toBe(text);
      }),
      { numRuns: 200 },
    );
  });

  test('a tokenizer cuts text only where both sides can be encoded alone, whatever follows', () => {
    let cuts = 0;
    fc.assert(
      fc.property(awkwardText, awkwardText, (text, more) => {
        const cut = tokenizer.lastCut(text);
        cuts += Number(cut > 0);
        const apart = [...tokenizer.encode(text.slice(0, cut)), ...tokenizer.encode(text.slice(cut) + more)];
        expect(apart).toEqual(tokenizer.encode(text + more));
      }),
      { numRuns: 3000 },
    );
    expect(cuts).toBeGreaterThan(1000);
  });

  test('a tokenizer replaces half a character and ids that are no token instead of throwing', () => {
    const [first] = tokenizer.encode('😀');
    expect(tokenizer.decode([first])).toBe('\ufffd');
    expect(tokenizer.decode([tokenizer.vocabSize, ...tokenizer.encode('ab')])).toBe('\ufffdab');
    expect(tokenizer.decode(tokenizer.encode('clean'))).toBe('clean');
    const decoder = tokenizer.streamDecoder();
    expect(decoder.push(first) + decoder.end()).toBe('\ufffd');
  });
});

describe('tokenizer gpt2', () => {
  test('the gpt2 tokenizer has the ids that are known of GPT-2', () => {
    expect(gpt2.vocabSize).toBe(50257);
    expect(gpt2.encode('Every effort moves you')).toEqual([6109, 3626, 6100, 345]);
    expect(gpt2.encode('Hello, do you like tea?')).toEqual([15496, 11, 466, 345, 588, 8887, 30]);
    expect(gpt2.encode('  \n x')).toEqual([220, 220, 198, 2124]);
    expect(gpt2.encode('')).toEqual([]);
  });

  test('the gpt2 tokenizer takes <|endoftext|> as one token wherever it stands', () => {
    const text = '<|endoftext|>one <|endoftext|><|endoftext|> two<|endoftext|>';
    expect(gpt2.encode(text).filter((id) => id === 50256)).toHaveLength(4);
    expect(gpt2.encode('a<|endoftext|>b')).toEqual([64, 50256, 65]);
    expect(gpt2.decode([64, 50256, 65])).toBe('a<|endoftext|>b');
  });

  test('the gpt2 tokenizer agrees with the encoder of gpt-tokenizer on Moby-Dick', () => {
    const ids = gpt2.encode(mobyDick);
    expect(ids).toHaveLength(317_756);
    expect(ids).toEqual(encodeByPackage(mobyDick));
  });

  test('the gpt2 tokenizer agrees with the encoder of gpt-tokenizer on awkward text', () => {
    // Where the two differ on purpose: the special token, and what JavaScript takes for white space.
    const plain = awkwardText.map((text) => text.replace(/<\|endoftext\|>|[\u0085\ufeff]/g, ''));
    fc.assert(
      fc.property(plain, (text) => {
        fc.pre(!text.includes('<|endoftext|>'));
        expect(gpt2.encode(text)).toEqual(encodeByPackage(text));
      }),
      { numRuns: 1000 },
    );
  });

  test("the gpt2 tokenizer takes white space as Unicode defines it, as OpenAI's code does", () => {
    // A byte order mark is no white space, so it takes the space before it into its piece; U+0085 is, and does not.
    expect(gpt2.encode(' \ufeffx')).toEqual([...gpt2.encode(' \ufeff'), ...gpt2.encode('x')]);
    expect(gpt2.encode(' \ufeffx')).not.toEqual(encodeByPackage(' \ufeffx'));
    expect(gpt2.encode('x \u0085y')).toEqual([87, 220, 126, 227, 88]);
  });

  test('the gpt2 tokenizer encodes a long run without a place to split in well under quadratic time', () => {
    const run = 'acgt'.repeat(50_000);
    const startMs = performance.now();
    const ids = gpt2.encode(run);
    expect(performance.now() - startMs).toBeLessThan(10_000);
    expect(gpt2.decode(ids)).toBe(run);
    expect(gpt2.encode('acgt'.repeat(100))).toEqual(encodeByPackage('acgt'.repeat(100)));
  });
});
