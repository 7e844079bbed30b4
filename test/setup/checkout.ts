import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

/** The folder of this checkout. */
export const checkout = resolve(import.meta.dirname, '../..');

const temporary: string[] = [];

export function removeTemporaryFolders(): void {
  for (const folder of temporary.splice(0)) rmSync(folder, { recursive: true, force: true });
}

export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'lantrain-setup-test-'));
  temporary.push(folder);
  return folder;
}

/** A checkout with one source file and, unless it is to be fresh, this checkout's dependencies. */
export function smallCheckout(main = "console.log('built');\n", isFresh = false): string {
  const folder = temporaryFolder();
  for (const name of [
    'package.json',
    'package-lock.json',
    'tsconfig.json',
    'tsconfig.build.json',
    'exec.cmd',
    'scripts/setup',
    'scripts/launch.mjs',
    'src/node/vulkan.mjs',
  ]) {
    cpSync(join(checkout, name), join(folder, name), { recursive: true });
  }
  if (!isFresh) symlinkSync(join(checkout, 'node_modules'), join(folder, 'node_modules'), 'junction');
  mkdirSync(join(folder, 'src/cli'), { recursive: true });
  writeFileSync(join(folder, 'src/cli/main.ts'), main);
  return folder;
}
