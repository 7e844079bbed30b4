import { describe, expect, test } from 'vitest';
import {
  always,
  defaultMatmulTable,
  describeTable,
  isMatmulVariant,
  MATMUL_PATTERN,
  type MatmulTable,
  shapeClass,
  variantFor,
} from '../../src/model/matmul-plan.js';
import { defaultPlan, missingFor } from '../../src/model/plan.js';
import { PlanSchema } from '../../src/train/run-config.js';
import { validate } from '../../src/util/validate.js';

const ADAPTER = { name: '', vendor: '', architecture: '', driver: '' };
const LAVAPIPE = { ...ADAPTER, software: true, subgroupSize: 8 };
const GPU = { ...ADAPTER, software: false, subgroupSize: undefined };

describe('matrix products', () => {
  test('matrix products are classed by layout, sizes up to powers of two, and output', () => {
    expect(shapeClass({ layout: 'NN', m: 512, n: 2304, k: 768, output: 'store' })).toBe('NN 512x4096x1024 store');
    expect(shapeClass({ layout: 'TN', m: 1, n: 50257, k: 2, output: 'fixed' })).toBe('TN 1x65536x2 grid');
  });

  test('matrix products take the first rule of the table that fits', () => {
    const table: MatmulTable = [
      ['TN 16x16x64 grid', 'subgroup8'],
      ['NT *x*x64 *', 'subgroup8'],
      ['*', 'tile64x64'],
    ];
    for (const [pattern] of table) expect(pattern).toMatch(MATMUL_PATTERN);
    const variant = (layout: 'NN' | 'NT' | 'TN', m: number, n: number, k: number, output: 'store' | 'fixed') =>
      variantFor(table, { layout, m, n, k, output });
    expect(variant('TN', 16, 9, 33, 'fixed')).toBe('subgroup8');
    expect(variant('TN', 16, 9, 33, 'store')).toBe('tile64x64');
    expect(variant('TN', 17, 9, 33, 'fixed')).toBe('tile64x64');
    expect(variant('NT', 1, 1000, 64, 'store')).toBe('subgroup8');
    expect(variant('NN', 1, 1000, 64, 'store')).toBe('tile64x64');
    expect(describeTable(table)).toBe('tile64x64, subgroup8');
  });

  test('matrix products go by subgroups on software with subgroups of 4, 8 or 16, by tiles everywhere else', () => {
    expect(defaultMatmulTable(LAVAPIPE)).toEqual(always('subgroup8'));
    expect(defaultMatmulTable({ ...LAVAPIPE, subgroupSize: 4 })).toEqual(always('subgroup4'));
    expect(defaultMatmulTable({ ...LAVAPIPE, subgroupSize: 16 })).toEqual(always('subgroup16'));
    expect(defaultMatmulTable({ ...LAVAPIPE, subgroupSize: 32 })).toEqual(always('tile64x64'));
    expect(defaultMatmulTable({ ...LAVAPIPE, software: false })).toEqual(always('tile64x64/kfit'));
    expect(defaultMatmulTable(GPU)).toEqual(always('tile64x64/kfit'));
  });
});

describe('a plan', () => {
  test('a plan says what an adapter lacks for it', () => {
    expect(missingFor(defaultPlan(LAVAPIPE), LAVAPIPE)).toBeUndefined();
    expect(missingFor(defaultPlan(GPU), LAVAPIPE)).toBeUndefined();
    expect(missingFor(defaultPlan(LAVAPIPE), GPU)).toBe('subgroups of 8');
    expect(missingFor({ ...defaultPlan(GPU), matmul: always('subgroup8') }, GPU)).toBe('subgroups of 8');
    expect(missingFor({ ...defaultPlan(GPU), attention: 'subgroup8' }, GPU)).toBe('subgroups of 8');
    expect(missingFor({ ...defaultPlan(GPU), attention: 'subgroup8/kept' }, GPU)).toBe('subgroups of 8');
    expect(missingFor({ ...defaultPlan(GPU), attention: 'tile/kept' }, GPU)).toBeUndefined();
  });

  test('a plan comes back from JSON as it was', () => {
    const kept = { ...defaultPlan(GPU), attention: 'tile/kept' };
    for (const plan of [defaultPlan(LAVAPIPE), defaultPlan(GPU), kept])
      expect(PlanSchema.parse(JSON.parse(JSON.stringify(plan)))).toEqual(plan);
  });

  test('a plan is refused where it is of another version, or names kernels or shapes that are not there', () => {
    const plan = defaultPlan(LAVAPIPE);
    const refusal = (changes: object) => {
      const checked = validate(PlanSchema, { ...plan, ...changes });
      return checked.ok ? undefined : checked.wrong;
    };
    expect(refusal({ version: 1, matmul: 'subgroup8' })).toMatch(
      /^version 1 is not that of this lantrain \(2\); matmul must be a list$/,
    );
    expect(refusal({ matmul: [['*', 'subgroup9']] })).toMatch(
      /^matmul\.0\.1 names a kernel that there is not: subgroup9$/,
    );
    expect(refusal({ matmul: [['*', 'toString']] })).toMatch(/a kernel that there is not: toString$/);
    expect(refusal({ matmul: [['MM 1x1x1 store', 'tile64x64'], ...always('tile64x64')] })).toMatch(/no pattern/);
    expect(refusal({ matmul: [['NN 1x1x1 store', 'tile64x64']] })).toMatch(/^matmul must end with the pattern \*$/);
    expect(refusal({ matmul: [] })).toBeDefined();
    expect(refusal({})).toBeUndefined();
    expect(isMatmulVariant('constructor')).toBe(false);
  });
});
