/** Field types that messages of the protocol and of the transport share. */
import { z } from 'zod';

export const u32 = z.number().int().min(0).max(0xffffffff);
export const positive = u32.min(1);
export const text = z.string().max(1000);
export const milliseconds = z.number().min(0).max(1e12);
export const bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array, 'must be bytes');
export const exactBytes = (length: number) => bytes.refine((b) => b.length === length, `must be ${length} bytes`);
