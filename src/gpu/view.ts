/** A byte range of a GPU buffer, which kernels bind. The offset of a bound view is a multiple of 256 bytes. */
export interface View {
  readonly buffer: GPUBuffer;
  /** Bytes from the start of the buffer. */
  readonly offset: number;
  /** Bytes. */
  readonly size: number;
  /** Whether its values are float16; otherwise they are 32-bit. */
  readonly f16?: boolean;
  /** Whether its values are rounded to 12 significant bits already (shaders/portable.wgsl): products need not do so. */
  readonly rounded?: boolean;
}

/** The alignment of bound offsets that every adapter accepts, in float32 values (256 bytes). */
export const ALIGN_VALUES = 64;

export function alignValues(values: number): number {
  return Math.ceil(values / ALIGN_VALUES) * ALIGN_VALUES;
}

/** How many values `view` holds. */
export function valuesIn(view: View): number {
  return view.size / (view.f16 ? 2 : 4);
}

/** Bytes of a buffer for `values` values. */
export function bufferBytes(values: number, f16 = false): number {
  return 4 * alignValues(Math.max(f16 ? Math.ceil(values / 2) : values, 1));
}

/** `count` values of `view`, from value `start` on; an odd number of float16 values is rounded up. */
export function slice(view: View, start: number, count: number): View {
  if (start + count > valuesIn(view)) throw new RangeError(`slice ${start}+${count} of a view of ${valuesIn(view)}`);
  const { offset } = view;
  if (view.f16) return { ...view, offset: offset + start * 2, size: 4 * Math.ceil(count / 2) };
  return { ...view, offset: offset + start * 4, size: count * 4 };
}

/** A view like those of `Gpu.buffer`, but without a buffer: for lists that are recorded and never prepared. */
export function paperView(values: number, f16 = false): View {
  const size = bufferBytes(values, f16);
  // Recording reads nothing of a buffer but its size.
  const buffer = { size } as GPUBuffer;
  return f16 ? { buffer, offset: 0, size, f16 } : { buffer, offset: 0, size };
}

/** The defines (`KernelId.defines`) of float16 views: the names in `views` whose view is float16. */
export function f16Defines(views: Readonly<Record<string, View | undefined>>): string[] {
  return Object.keys(views).filter((name) => views[name]?.f16);
}

/** The defines of views that are rounded to 12 bits: the names in `views` whose view is `rounded`. */
export function roundedDefines(views: Readonly<Record<string, View | undefined>>): string[] {
  return Object.keys(views).filter((name) => views[name]?.rounded);
}

/** `view` extended to a multiple of 16 bytes, as far as its buffer reaches, so that its last values lie in a whole vec4. */
export function wholeVectors(view: View): View {
  const size = Math.min(Math.ceil(view.size / 16) * 16, view.buffer.size - view.offset);
  return { ...view, size };
}
