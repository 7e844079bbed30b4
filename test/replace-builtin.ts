import { syncBuiltinESMExports } from 'node:module';
import { afterAll } from 'vitest';

/** Replaces functions of a Node module until the file's tests are over, also where they were imported before. */
export function replaceBuiltin<T extends object>(module: T, changes: Partial<T>): void {
  const own = Object.fromEntries(Object.keys(changes).map((name) => [name, module[name as keyof T]]));
  const put = (functions: object) => {
    Object.assign(module, functions);
    syncBuiltinESMExports();
  };
  put(changes);
  afterAll(() => put(own));
}
