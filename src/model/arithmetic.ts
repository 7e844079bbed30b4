import type { Dispatch } from '../gpu/list.js';

/** `dispatch` with the arithmetic of shaders/portable.wgsl, whose bits no driver chooses. */
export function portably(dispatch: Dispatch): Dispatch {
  return {
    ...dispatch,
    defines: [...(dispatch.defines ?? []), 'portable'],
    uniforms: { ...dispatch.uniforms, portableZero: [0] },
  };
}
