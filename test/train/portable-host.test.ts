import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { describe, expect, test } from 'vitest';
import { freshTensor } from '../../src/model/initialize.js';
import { parameters } from '../../src/model/parameters.js';
import { hostMath, type PRECISIONS } from '../../src/model/precision.js';
import { pick } from '../../src/train/sample.js';
import { learningRateAt, type Schedule } from '../../src/train/schedule.js';
import { type HostMath, NATIVE_MATH } from '../../src/util/host-math.js';
import * as portable from '../../src/util/portable-math.js';
import { deriveKey, fillNormal, threefry } from '../../src/util/random.js';

const COUNT = 200_000;
const KEY = deriveKey(1, 98);

/** Uniform in [low, high) with 53 bits, number `i` of a fixed sequence. */
function uniform(i: number, low: number, high: number): number {
  const [a, b] = threefry(KEY, i, 0);
  return low + ((a * 2 ** 21 + (b >>> 11)) / 2 ** 53) * (high - low);
}

/** The bits of `x` as a float64, in hex. */
function hex(x: number): string {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, x);
  return view.getBigUint64(0).toString(16).padStart(16, '0');
}

/** The largest error of `got`, as a multiple of the value, over the points of `at`. */
function largestError(got: (x: number) => number, want: (x: number) => number, at: (i: number) => number): number {
  let largest = 0;
  for (let i = 0; i < COUNT; i++) {
    const x = at(i);
    const [a, b] = [got(x), want(x)];
    if (!Object.is(a, b)) largest = Math.max(largest, Math.abs(a - b) / Math.abs(b));
    if (Number.isNaN(largest)) expect(a, `at ${x}`).toBe(b);
  }
  return largest;
}

describe('the functions of fixed bits', () => {
  test('log, exp, cos and sin are within 1e-15 of the engine’s, over their whole ranges', () => {
    const cases: Record<string, [(x: number) => number, (x: number) => number, (i: number) => number]> = {
      'log of (0, 1], as Box-Muller asks': [portable.log, Math.log, (i) => (threefry(KEY, i, 1)[0] + 1) / 2 ** 32],
      'log near 1': [portable.log, Math.log, (i) => uniform(i, 0.6, 1.6)],
      'log everywhere': [portable.log, Math.log, (i) => portable.power(2, i % 1000) * uniform(i, 1e-10, 10)],
      'log of small values': [portable.log, Math.log, (i) => uniform(i, 0, 1) / portable.power(2, i % 1060)],
      'exp near 0': [portable.exp, Math.exp, (i) => uniform(i, -2, 2)],
      'exp everywhere': [portable.exp, Math.exp, (i) => uniform(i, -708, 709.7)],
      'cos of a schedule': [portable.cos, Math.cos, (i) => Math.PI * uniform(i, 0, 1)],
      'cos everywhere': [portable.cos, Math.cos, (i) => uniform(i, -portable.LARGEST_ANGLE, portable.LARGEST_ANGLE)],
      'sin everywhere': [portable.sin, Math.sin, (i) => uniform(i, -portable.LARGEST_ANGLE, portable.LARGEST_ANGLE)],
      'sin at multiples of pi / 2': [portable.sin, Math.sin, (i) => (i * Math.PI) / 2 + uniform(i, -1e-9, 1e-9)],
    };
    for (const [name, [got, want, at]] of Object.entries(cases))
      expect(largestError(got, want, at), name).toBeLessThan(1e-15);
  });

  test('the sine and cosine of a turn are within 1e-15 of those of its angle in its octant', () => {
    for (let i = 0; i < COUNT; i++) {
      const word = i < 64 ? ((i >> 2) * 2 ** 28 + (i % 4) - 1) >>> 0 : threefry(KEY, i, 2)[0];
      const [c, s] = portable.cosSinOfTurn(word);
      // The nearest quarter turn is taken off first, as integers: the angle itself would be rounded too coarsely.
      const quarters = Math.round(word / 2 ** 30);
      const angle = ((word - quarters * 2 ** 30) / 2 ** 32) * 2 * Math.PI;
      const [nearC, nearS] = [Math.cos(angle), Math.sin(angle)];
      const want = [
        [nearC, nearS],
        [-nearS, nearC],
        [-nearC, -nearS],
        [nearS, -nearC],
      ][quarters % 4];
      for (const [a, b] of [
        [c, want[0]],
        [s, want[1]],
      ])
        if (!(Math.abs(a - b) <= 1e-15 * Math.abs(b))) expect(a, `of ${word}`).toBe(b);
    }
  });

  test('their edges are those of the language', () => {
    const tiny = 2 ** -1074;
    expect([-1, 0, tiny, 1, Infinity, NaN].map(portable.log)).toEqual([-1, 0, tiny, 1, Infinity, NaN].map(Math.log));
    const edges = [-Infinity, -800, -746, -745.2, 0, 709.7, 709.8, 800, Infinity, NaN];
    expect(edges.map(portable.exp)).toEqual(edges.map(Math.exp));
    // Denormal results have few bits, of which the last may differ.
    for (const x of [-709, -720, -744, -745]) expect(Math.abs(portable.exp(x) - Math.exp(x))).toBeLessThanOrEqual(tiny);
    expect([portable.cos(0), portable.sin(0), portable.cos(NaN), portable.sin(Infinity)]).toEqual([1, 0, NaN, NaN]);
    expect(portable.cosSinOfTurn(0)).toEqual([1, 0]);
  });

  test('their bits are these', () => {
    const results = {
      log: [2 ** -32, 0.1, 0.5, 0.9999, 3, 1e300].map(portable.log),
      exp: [-700, -10.5, -0.1, 1e-9, 1, 700].map(portable.exp),
      cos: [0.1, 1, 2, 3.14, 1000].map(portable.cos),
      sin: [0.1, 1, 2, 3.14, 1000].map(portable.sin),
      turn: [1, 2 ** 29, 0x9abcdef0, 0xffffffff].flatMap(portable.cosSinOfTurn),
    };
    const bits = Object.fromEntries(Object.entries(results).map(([name, values]) => [name, values.map(hex)]));
    expect(bits).toEqual({
      log: [
        'c0362e42fefa39ef',
        'c0026bb1bbb55515',
        'bfe62e42fefa39ef',
        'bf1a3738d2cf1cc2',
        '3ff193ea7aad030a',
        '4085963447f87fb5',
      ],
      exp: [
        '00d14f2b0fb9307f',
        '3efcdfc263f6a0ba',
        '3fecf46d99d52b3a',
        '3ff000000044b830',
        '4005bf0a8b14576a',
        '7f0d945df4f8ec8e',
      ],
      cos: ['3fefd712f9a817c1', '3fe14a280fb5068c', 'bfdaa22657537205', 'bfeffffd5719f5d7', '3fe1ff026793f1bc'],
      sin: ['3fb98eaecb8bcb2c', '3feaed548f090cee', '3fed18f6ead1b446', '3f5a18120c2c1274', '3fea75cc150a206b'],
      turn: [
        '3ff0000000000000',
        '3e1921fb54442d18',
        '3fe6a09e667f3bcc',
        '3fe6a09e667f3bcd',
        'bfe95a6fd79bda20',
        'bfe3864f1bee8e6e',
        '3ff0000000000000',
        'be1921fb54442d18',
      ],
    });
  });
});

describe('a portable run', () => {
  const schedule: Schedule = { schedule: 'cosine', learningRate: 6e-4, warmupSteps: 10, totalSteps: 1000 };

  test('draws weights of fixed bits, and the other precisions those they always drew', () => {
    const model = { vocabSize: 50, context: 8, width: 16, heads: 2, layers: 2, tie: true, qkvBias: true };
    const [wte] = parameters(model);
    const weights = (precision?: (typeof PRECISIONS)[number]) =>
      [...freshTensor(model, wte, 0, 'gpt2', 1, precision).subarray(0, 4)].map(hex);
    expect(weights('portable')).toEqual([
      '3f1bebb280000000',
      'bf9c687c00000000',
      '3f791c1f40000000',
      '3f93f61400000000',
    ]);
    expect(weights('f32')).toEqual(weights());
    const values = new Float32Array(1000);
    fillNormal(KEY, values, 0.02, hostMath('f16'));
    const [a, b] = threefry(KEY, 7, 0);
    const radius = 0.02 * Math.sqrt(-2 * Math.log((a + 1) / 2 ** 32));
    const angle = (2 * Math.PI * b) / 2 ** 32;
    expect([values[14], values[15]]).toEqual([radius * Math.cos(angle), radius * Math.sin(angle)].map(Math.fround));
    for (const precision of ['f32', 'f16', undefined] as const) expect(hostMath(precision)).toBe(NATIVE_MATH);
  });

  test('has learning rates of fixed bits, and the other precisions those they always had', () => {
    const rates = (precision?: (typeof PRECISIONS)[number]) =>
      [5, 11, 12, 333, 505, 999, 1000].map((step) => hex(learningRateAt({ ...schedule, precision }, step)));
    expect(rates('portable')).toEqual([
      '3f33a92a30553261',
      '3f43a92744f7d445',
      '3f43a91e82e1a72a',
      '3f3ecffb3d3c5e27',
      '3f35a07b352a8438',
      '3f0f753f032aff22',
      '3f0f75104d551d68',
    ]);
    const native = (step: number) => {
      const progress = Math.min(1, (step - 10) / 990);
      return 6e-4 * (0.1 + (1 - 0.1) * 0.5 * (1 + Math.cos(Math.PI * progress)));
    };
    expect(rates('f32').slice(1)).toEqual([11, 12, 333, 505, 999, 1000].map((step) => hex(native(step))));
    expect(rates('f16')).toEqual(rates());
  });

  test('draws tokens by exponentials of fixed bits', () => {
    const logits = Float32Array.from({ length: 100 }, (_, i) => uniform(i, -5, 5));
    const pickAll = (math: HostMath) =>
      Array.from({ length: 8 }, (_, i) => pick(logits, { temperature: 0.8, topK: 20 }, uniform(i, 0, 1), math));
    expect(pickAll(hostMath('portable'))).toEqual([79, 70, 46, 46, 97, 70, 88, 46]);
    // Another exponential would be seen: `pick` asks nothing else.
    expect(pickAll({ ...hostMath('portable'), exp: () => 1 })).not.toEqual(pickAll(hostMath('portable')));
  });
});

/** What every engine computes alike, and constants. */
const FIXED = new Set(
  'sqrt fround abs floor ceil round trunc sign min max imul clz32 PI SQRT2 SQRT1_2 LOG2E LN2'.split(' '),
);

/** Where the step, the schedule, the first weights and samples come from, alone and in a cluster. */
const ROOTS = [
  'src/train/engine.ts',
  'src/train/trainer.ts',
  'src/run/state.ts',
  'src/run/generate.ts',
  'cluster/coordinator/engine.ts',
  'cluster/worker/worker-engine.ts',
];

/** Lines by which no bit of a portable run is made. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  // What f32 and f16 runs have instead of src/util/portable-math.ts.
  'src/util/host-math.ts': [
    'log: Math.log,',
    'exp: Math.exp,',
    'cos: Math.cos,',
    'return [Math.cos(angle), Math.sin(angle)];',
    'power: (base, exponent) => base ** exponent,',
  ],
  // The loss scale of f16. Elsewhere its exponent is 0, and the language says that x ** 0 is 1.
  'src/model/gpt.ts': [
    'this.gpu.write(scale, Float32Array.of(tokenWeight * 2 ** scaleExponent));',
    'if (unit) this.gpu.write(unit, Float32Array.of(2 ** -scaleExponent));',
  ],
  // The name of a product's shape, for the choice of a kernel.
  'src/model/matmul-plan.ts': ['const sizes = [m, n, k].map((size) => 2 ** Math.ceil(Math.log2(size)));'],
  // Times, and the set of all.
  'cluster/round/eligibility.ts': [
    'return Math.min(first * 2 ** Math.min(level - 1, 30), Math.max(longestMs, first));',
  ],
  'cluster/round/lateness.ts': [
    'return Math.max(silenceMs, silenceFactor * this.dealer.loadMs(member)) * 2 ** Math.min(member.level, 10);',
  ],
  'cluster/round/sets.ts': ['if (size % 32 !== 0) set[set.length - 1] = 2 ** (size % 32) - 1;'],
};

/** `source` without comments, and strings without their contents; lines stay. */
function codeOf(source: string): string {
  return source.replace(/'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|\/\*[\s\S]*?\*\/|\/\/.*$/gm, (text) =>
    text.startsWith('/') ? text.replace(/[^\n]/g, '') : text,
  );
}

/** The files that `roots` import, directly or not, types aside; with their code. */
function reached(roots: readonly string[]): Map<string, string> {
  const files = new Map<string, string>();
  const visit = (file: string) => {
    if (files.has(file)) return;
    const code = codeOf(readFileSync(file, 'utf8'));
    files.set(file, code);
    for (const [, path] of code.matchAll(/^(?:import|export)(?! type\b)[^;]*?from '(\.[^']*)\.js';/gm)) {
      const target = relative('.', join(dirname(file), `${path}.ts`));
      expect(existsSync(target), `${file} imports ${target}`).toBe(true);
      visit(target);
    }
  };
  for (const root of roots) visit(root);
  return files;
}

/** Lines of `code` whose numbers an engine may choose. */
function chosenByEngines(code: string): string[] {
  const isChosen = (line: string) =>
    [...line.matchAll(/\bMath\b(?:\.(\w+))?/g)].some(([, name]) => !FIXED.has(name)) ||
    /\*\*(?!=? ?-?\d+\b(?!\.))/.test(line);
  return code
    .split('\n')
    .filter(isChosen)
    .map((line) => line.trim());
}

describe('the sources that a step, a schedule, fresh weights and samples reach', () => {
  const files = reached(ROOTS);

  test('the scan reaches what it should and finds what it should', () => {
    for (const file of [
      'src/util/random.ts',
      'src/train/sample.ts',
      'src/train/optimizer.ts',
      'src/util/portable-math.ts',
    ])
      expect(files.has(file), file).toBe(true);
    for (const line of [
      'Math.log(x)',
      'const { log } = Math;',
      'x ** y',
      '2 ** -n',
      'x **= n',
      '2 ** 0.5',
      'Math.random()',
    ])
      expect(chosenByEngines(line), line).toEqual([line]);
    const harmless = 'const a = Math.floor(x) * 2 ** -40; // Math.log(x)\n/* x ** y */ const b = Math.PI ** 2;';
    expect(chosenByEngines(codeOf(harmless))).toEqual([]);
  });

  test('no number of a portable run is one that engines choose', () => {
    const found = Object.fromEntries(
      [...files].map(([file, code]) => [file, chosenByEngines(code)] as const).filter(([, lines]) => lines.length > 0),
    );
    expect(found).toEqual(ALLOWED);
  });
});
