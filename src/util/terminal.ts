import { printable } from './printable.js';

type Output = NodeJS.WritableStream & { readonly isTTY?: boolean; readonly columns?: number };

const unguarded = new WeakMap<NodeJS.WritableStream, Output>();

/**
 * From here on all text that is written to `stream`, by whom ever, is made printable: no caller can forget it. Also where
 * `stream` is a file or a pipe, since what is in there is looked at on a terminal.
 */
export function guardTerminal(stream: NodeJS.WritableStream): void {
  if (unguarded.has(stream)) return;
  const write = stream.write as (...args: unknown[]) => boolean;
  const raw = (...args: unknown[]) => write.apply(stream, args);
  unguarded.set(stream, Object.create(stream, { write: { value: raw } }));
  stream.write = (chunk: unknown, ...more: unknown[]) =>
    raw(typeof chunk === 'string' ? printable(chunk) : chunk, ...more);
}

/** `stream` for who moves the cursor, such as a progress bar: what it writes is not made printable. */
export function withCursor<S extends NodeJS.WritableStream>(stream: S): S {
  return (unguarded.get(stream) as S | undefined) ?? stream;
}
