import { beforeAll, describe, expect, it } from 'vitest';
import { Bench } from './harness.js';

let bench: Bench;
beforeAll(async () => {
  bench = await Bench.open();
});

describe('runtime', () => {
  it('reads back what it wrote', async () => {
    const view = await bench.put(new Uint32Array([1, 2, 3]));
    expect([...(await bench.words(view))]).toEqual([1, 2, 3]);
  });
});
