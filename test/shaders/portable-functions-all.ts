/**
 * Calls each function of shaders/portable.wgsl with every float32 of its range on the adapter at hand, and prints the SHA-256
 * of all results, so that two adapters or drivers can be compared. Also compares one result of 1021 with TypeScript.
 *
 *     npm run portable-functions -- [--stride 16] [name ...]
 *
 * `--stride 16` takes one block of 2^24 inputs of 16. Results are 4 bytes each, little-endian, in the order of the inputs'
 * bits; every NaN is 0x7fc00000.
 */
import { createHash } from 'node:crypto';
import { parseArgs } from 'node:util';
import { fromBits } from '../../src/reference/arithmetic.js';
import { GpuHarness } from '../gpu/harness.js';
import { FUNCTIONS, type FunctionName, type PortableFunction, Probe, plainBits } from './portable-functions.js';

const BLOCK = 2 ** 24;
/** Results of which one is compared with TypeScript. A prime, so that every low bit occurs. */
const SAMPLED = 1021;

const { values, positionals } = parseArgs({ options: { stride: { type: 'string' } }, allowPositionals: true });
const stride = Number(values.stride ?? 1);
const names = (Object.keys(FUNCTIONS) as FunctionName[]).filter(
  (name) => FUNCTIONS[name].of.length === 1 && (positionals.length === 0 || positionals.includes(name)),
);

const harness = await GpuHarness.open();
const probe = await Probe.create(harness, BLOCK);
const { description, device } = harness.gpu.device.adapterInfo;
console.log([device, description].filter(Boolean).join(', '), stride > 1 ? `, one block of ${stride}` : '');
for (const name of names) {
  const { of, bits }: PortableFunction = FUNCTIONS[name];
  const [least, largest] = bits ?? [0, 2 ** 32 - 1];
  const began = performance.now();
  const hash = createHash('sha256');
  let [inputs, wrong] = [0, 0];
  for (let first = least; first <= largest; first += stride * BLOCK) {
    await probe.writeFrom(first);
    const results = (await probe.call(name)).subarray(0, largest - first + 1);
    hash.update(new Uint8Array(results.buffer, 0, results.byteLength));
    inputs += results.length;
    for (let i = 0; i < results.length; i += SAMPLED) {
      const x = fromBits(first + i);
      const want = name === 'keep4' && !Number.isNaN(x) ? first + i : plainBits(of(x, 0));
      if (results[i] !== want && wrong++ < 10)
        console.log(`${name}(0x${(first + i).toString(16)}): 0x${results[i].toString(16)}, not 0x${want.toString(16)}`);
    }
  }
  const seconds = ((performance.now() - began) / 1000).toFixed(0);
  console.log(
    `${name.padEnd(17)} ${hash.digest('hex')}  ${inputs} inputs, ${wrong} of the sample differ, ${seconds} s`,
  );
  if (wrong > 0) process.exitCode = 1;
}
harness.gpu.device.destroy();
