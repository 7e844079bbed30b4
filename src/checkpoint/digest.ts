import { createHash, type Hash } from 'node:crypto';
import type { ModelConfig } from '../model/config.js';
import { parameters } from '../model/parameters.js';
import type { Wire } from '../model/wire.js';

/**
 * The arrays of a state: weights, AdamW's first moments, its second moments. In the low wire `weights` are those that everybody
 * computes with, and `master` those that AdamW updates.
 */
export type StatePart = 'weights' | 'master' | 'm' | 'v';

const STATE_PARTS: Readonly<Record<Wire, readonly StatePart[]>> = {
  exact: ['weights', 'm', 'v'],
  low: ['weights', 'master', 'm', 'v'],
};

/** The parts of a state, in the digest's order. */
export function statePartsOf(wire: Wire = 'exact'): readonly StatePart[] {
  return STATE_PARTS[wire];
}

/** One tensor of the state, unpadded, in the shape and under the name of parameters.ts. */
export type ReadState = (part: StatePart, name: string) => Float32Array | Promise<Float32Array>;

/**
 * The digest of a state: SHA-256 over its parts (`statePartsOf`), each in the order of parameters.ts as unpadded little-endian
 * float32, then the step as u64 LE. `add` takes one tensor at a time. It throws a RangeError on another order, so that no
 * caller can hash the right bytes in the wrong order.
 */
export class StateDigest {
  private readonly hash: Hash = createHash('sha256');
  private readonly order: { part: StatePart; name: string; size: number }[];
  private next = 0;

  constructor(config: ModelConfig, wire?: Wire) {
    const list = parameters(config);
    this.order = statePartsOf(wire).flatMap((part) => list.map(({ name, size }) => ({ part, name, size })));
  }

  add(part: StatePart, name: string, values: Float32Array): void {
    const due = this.order[this.next++];
    if (due?.part !== part || due.name !== name || due.size !== values.length)
      throw new RangeError(
        `${part} ${name} with ${values.length} values came into the digest where ` +
          (due ? `${due.part} ${due.name} with ${due.size} was due` : 'the step was due'),
      );
    this.hash.update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  }

  /** The digest of the state after `step` steps, in hexadecimal. */
  finish(step: number): string {
    if (this.next !== this.order.length)
      throw new RangeError(`the digest has ${this.next} of ${this.order.length} tensors`);
    const last = new Uint8Array(8);
    new DataView(last.buffer).setBigUint64(0, BigInt(step), true);
    return this.hash.update(last).digest('hex');
  }
}

/** The digest of the state after `step` steps, whose tensors `read` gives. */
export async function digestState(config: ModelConfig, step: number, read: ReadState, wire?: Wire): Promise<string> {
  const digest = new StateDigest(config, wire);
  const list = parameters(config);
  for (const part of statePartsOf(wire)) for (const { name } of list) digest.add(part, name, await read(part, name));
  return digest.finish(step);
}
