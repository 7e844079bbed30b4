import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ShaderTexts } from '../gpu/kernel.js';

/**
 * The package's root: the nearest folder above this file that contains `shaders/` (the file runs from dist/ or src/).
 */
export function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'shaders'))) {
    const parent = dirname(folder);
    if (parent === folder) throw new Error('the folder shaders/ is missing from this installation');
    folder = parent;
  }
  return folder;
}

export function loadShaders(): ShaderTexts {
  const folder = join(packageRoot(), 'shaders');
  const files = readdirSync(folder).filter((f) => f.endsWith('.wgsl'));
  return Object.fromEntries(files.map((f) => [f.slice(0, -'.wgsl'.length), readFileSync(join(folder, f), 'utf8')]));
}
