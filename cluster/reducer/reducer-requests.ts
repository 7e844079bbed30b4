import type { Checksum } from '../exchange/checksum.js';
import type { PackedContribution, SlotShape } from './reducer-arena.js';
import type { SharedMemory } from './web-assembly.js';

/** What the reducer asks its threads for. */

/** Take over an arena. There is no answer. */
export interface ArenaRequest {
  readonly arena: number;
  readonly memory: SharedMemory;
  readonly slots: readonly SlotShape[];
}

export type SlotWork =
  | {
      readonly type: 'add';
      readonly packed: PackedContribution;
      /** Whether the values replace what is in the slot. */
      readonly isFirst: boolean;
    }
  | { readonly type: 'clear' }
  | { readonly type: 'grid'; readonly bytes: Uint8Array };

/** Do something with a slot of an arena. */
export interface SlotRequest {
  readonly arena: number;
  readonly id: number;
  readonly slot: number;
  readonly work: SlotWork;
}

/** Compute the digest of bytes, if they have this checksum. */
export interface DigestRequest {
  readonly id: number;
  readonly digest: Uint8Array;
  readonly checksum: Checksum;
}

export type ReducerRequest = ArenaRequest | SlotRequest | DigestRequest;

export interface ReducerReply {
  readonly id: number;
  /** Why nothing was added; undefined if all was. */
  readonly refused?: string | undefined;
  readonly digest?: string | undefined;
}
