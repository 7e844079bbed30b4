import { describe, expect, test } from 'vitest';
import { composeShader } from '../../src/gpu/kernel.js';
import { loadShaders } from '../../src/node/shaders.js';
import { scanWgsl } from './wgsl-scan.js';

/** A composed shader that a portable graph launches: its file, its defines other than `portable`. */
interface Scanned {
  readonly file: string;
  readonly defines?: readonly string[];
  /** Entry points that portable graphs do not launch. */
  readonly without?: readonly string[];
}

const SCANNED: readonly Scanned[] = [
  { file: 'portable' },
  { file: 'arithmetic' },
  { file: 'round_weights' },
  { file: 'arrange', defines: ['round'] },
  { file: 'layernorm' },
  { file: 'columns' },
  { file: 'embedding' },
  { file: 'cross_entropy' },
  { file: 'attention_subgroup' },
  { file: 'attention_tile' },
  { file: 'decode' },
  { file: 'adamw' },
  { file: 'gradient_norm' },
  { file: 'unpack_low' },
  { file: 'checksum', defines: ['moved'] },
  ...['matmul_plain', 'matmul_subgroup', 'matmul_subgroup_tall', 'matmul_tile', 'matmul_reduce'].flatMap((file) => [
    { file, defines: ['roundA', 'roundB'] },
    { file, defines: ['vec4', 'roundC'] },
  ]),
];

const shaders = loadShaders();

test.for(SCANNED)('$file leaves no float to the driver', ({ file, defines = [], without }) => {
  expect(scanWgsl(composeShader(shaders, file, ['portable', ...defines]), { without })).toEqual([]);
});

/** The violations in a kernel with these statements; a, b, c are f32, v and w vec4f, n and m u32, p [N] f32. */
function violationsOf(statements: string, more = '', comment = ''): string[] {
  const kernel = `//! import arithmetic
override SCALE: f32 = 1.0;
override N: u32 = 4u;
const HALF = 0.5;
struct Pair { mean: f32, both: vec4<f32> }
@group(0) @binding(0) var<storage, read_write> p: array<f32>;
var<workgroup> tile: array<array<vec4f, 8>, 4>;
fn twice(x: f32) -> f32 { return 2.0 * x; }
${more}
${comment}
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let n = id.x;
  let m = n + 1u;
  var a = p[n];
  var b = p[m];
  var c = p[n / 2u % N];
  var v = tile[0][n];
  var w = vec4f(a);
  var pair = Pair(a, v);
  ${statements}
  p[n] = c;
}`;
  const found = scanWgsl(composeShader({ ...shaders, kernel }, 'kernel', ['portable']));
  return found.map((line) => line.replace(/^main: /, '').replace(/: .*/, ''));
}

describe('the scan of portable shaders', () => {
  test.for([
    'c = keep(a + b);',
    'c = settle(keep(a - b) * SCALE);',
    'c = rounded(a + b);',
    'w = settle4(v * a);',
    'w = settle4(v * keep(pair.mean + pair.both.x));',
    'c = HALF * a;',
    'c = -0.25 * keep(a + b);',
    'let i = (n * m + 3u) / 4u % 7u; c = p[i];',
    'var i = n; i >>= 2u; i <<= 1u; i ^= m; i++; c = p[i];',
    'let i = i32(n) - 127 + i32(m); c = f32(i << 3u);',
    'for (var i = n; i < m; i += 2u) { c = keep(c + p[i]); }',
    'if (keep(a * b) < c || n >> 2u > m) { c = select(a, max(b, c), n < 3u); } else { c = abs(-a); }',
    'c = floor(clamp(a, -1.0, 1.0)); c = twice(keep(a + b));',
    'let r = &pair; (*r).mean = keep((*r).mean + a);',
    'switch n { case 0u, 1u: { c = a; } default: { c = b; } }',
    'while (true) { if (n > 2u) { break; } }',
    'w = bitcast<vec4f>(bitcast<vec4u>(v) ^ vec4u(n)); c = vec2<f32>(a, b).y;',
  ])('passes %s', (statements) => {
    expect(violationsOf(statements)).toEqual([]);
  });

  test.for([
    ['c = a + b;', 'a sum without keep or settle'],
    ['c += a;', 'a sum without keep or settle'],
    ['let d = a * b;', 'a product without keep or settle'],
    ['c = keep(a * b + c);', 'a product feeds a sum'],
    ['c = keep(c - a * b);', 'a product feeds a sum'],
    ['c = keep(a + b + c);', 'a sum feeds a sum'],
    ['c = settle((a + b) * c);', 'a sum feeds a product'],
    ['c = settle(a * b * c);', 'a product feeds a product'],
    ['c = keep(2.0 * (a + b) - c);', 'a sum feeds a sum'],
    ['c = keep(-(a * b) + c);', 'a product feeds a sum'],
    ['c = twice(a + b);', 'a sum without keep or settle'],
    ['c = max(a + b, c);', 'a sum without keep or settle'],
    ['c = select(a, a + b, n > 1u);', 'a sum without keep or settle'],
    ['w = keep4(v + w * pair.mean);', 'a product feeds a sum'],
    ['w = tile[1][m] - v;', 'a sum without keep or settle'],
    ['c = (v + w).x;', 'a sum without keep or settle'],
    ['c = settle(SCALE * 3.0);', 'float arithmetic between constants'],
    ['c = keep(a * settle(SCALE / 3.0));', '/ of floats'],
    ['c = settle(a / f32(N));', '/ of floats'],
    ['c = keep(a % 2.0);', '% of floats'],
    ...'fma(a, b, c) round(a) fract(a) mix(a, b, c) length(v) exp(a) exp2(a) log(a) log2(a) pow(a, b) ldexp(a, 2i) sqrt(a)'
      .split(/(?<=\)) /)
      .map((call) => [`c = ${call};`, `${call.replace(/\(.*/, '')} of floats`]),
    ...'inverseSqrt(a) tanh(a) sin(a) cos(a) subgroupAdd(a) dot(v, w) smoothstep(a, b, c) degrees(a)'
      .split(/(?<=\)) /)
      .map((call) => [`c = ${call};`, `${call.replace(/\(.*/, '')} of floats`]),
    ['let f = frexp(a);', 'frexp of floats'],
  ])('finds %s', ([statements, violation]) => {
    expect(violationsOf(statements)).toContain(violation);
  });

  test('lets a marked function add exact products to a sum, and nothing else', () => {
    const mark = '// rule (c): exact products';
    const chain = 'c = (c + a * b) + v.x * w.y; w += v * a; v = a * w; v = keep4(v + w * b);';
    expect(violationsOf(chain, '', mark)).toEqual([]);
    expect(violationsOf(chain).length).toBeGreaterThan(3);
    const another = `${mark}\nfn add(acc: vec4f, x: vec4f, y: f32) -> vec4f { return acc + x * y; }`;
    expect(violationsOf('w = add(w, v, a);', another)).toEqual([]);
    expect(violationsOf('c = a * b;', another)).toEqual(['a product without keep or settle']);
    for (const [statements, violation] of [
      ['c = a + b;', 'a sum without keep or settle'],
      ['c = c + a * b + a;', 'a chain feeds a sum'],
      ['c = a + (b + c * a);', 'a chain feeds a sum'],
      ['c = (c + a * b) * a;', 'a chain feeds a product'],
      ['c = exp(c + a * b);', 'exp of floats'],
    ])
      expect(violationsOf(statements, '', mark), statements).toContain(violation);
  });

  test('leaves out functions that nothing calls, and entry points it is told of', () => {
    const unused = 'fn unused(x: f32) -> f32 { return sqrt(x); }';
    expect(violationsOf('', unused)).toEqual([]);
    expect(violationsOf('c = unused(a);', unused)).toEqual(['unused']);
    const entry = 'var<private> x: f32;\n@compute @workgroup_size(1)\nfn one() { x = x + x; }';
    expect(scanWgsl(entry)).toEqual(['one: a sum without keep or settle: fn one() { x = x + x; }']);
    expect(scanWgsl(entry, { without: ['one'] })).toEqual([]);
  });
});
