import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from './shaders.js';

/** lantrain's version, from package.json. */
export function version(): string {
  return JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')).version;
}
