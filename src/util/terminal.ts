import { printable } from './printable.js';

type Output = NodeJS.WritableStream & { readonly isTTY?: boolean; readonly columns?: number };

const unguarded = new WeakMap<NodeJS.WritableStream, Output>();

/**
 * From now on all text that any code writes to `stream` is made printable, so no caller can forget it. This holds for
 * files and pipes too, since their contents are shown on a terminal later.
 */
export function guardTerminal(stream: NodeJS.WritableStream): void {
  if (unguarded.has(stream)) return;
  const write = stream.write as (...args: unknown[]) => boolean;
  const raw = (...args: unknown[]) => write.apply(stream, args);
  unguarded.set(stream, Object.create(stream, { write: { value: raw } }));
  stream.write = (chunk: unknown, ...more: unknown[]) =>
    raw(typeof chunk === 'string' ? printable(chunk) : chunk, ...more);
}

/** `stream` for code that moves the cursor, such as a progress bar: what is written to it is not made printable. */
export function withCursor<S extends NodeJS.WritableStream>(stream: S): S {
  return (unguarded.get(stream) as S | undefined) ?? stream;
}
