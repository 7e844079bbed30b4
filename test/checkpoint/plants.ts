import { execFileSync } from 'node:child_process';
import { linkSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** All files and folders of a run that this version or 0.1.0 writes or removes, with a checkpoint of step 4. */
export const NAMES: readonly string[] = [
  ...['config.json', 'metrics.jsonl', 'samples.txt', 'loss.svg', 'report.html'].flatMap((name) => [
    name,
    `${name}.partial`,
    `${name}.0123456789abcdef.partial`,
  ]),
  'lock',
  'lock.1a2b3c4d.partial',
  'checkpoints',
  'checkpoints/000004',
  ...['config.json', 'model.safetensors', 'optimizer.safetensors', 'state.json'].flatMap((name) => [
    `checkpoints/000004/${name}`,
    `checkpoints/000004/${name}.partial`,
  ]),
  'checkpoints/000004.replaced',
  'checkpoints/000004.0123456789abcdef.replaced',
  'checkpoints/000004.damaged',
  'checkpoints/000004.partial',
  'checkpoints/000005',
  'checkpoints/000006.partial',
  'checkpoints/000006.replaced',
  'checkpoints/000006.0123456789abcdef.partial',
  'cluster',
  ...['token', 'admin-token', 'certificate.pem', 'key.pem', 'port', 'incarnation', 'marks.json'].flatMap((name) => [
    `cluster/${name}`,
    `cluster/${name}.partial`,
    `cluster/${name}.4711.partial`,
  ]),
];

/** Files and folders that no command may touch. */
export class Outside {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
    mkdirSync(join(path, 'folder', '000001'), { recursive: true });
    for (const name of ['file', 'linked', 'folder/file', 'folder/000001/state.json', 'folder/token'])
      writeFileSync(join(path, name), `${name} is none of a run's business\n`);
    if (process.platform !== 'win32') execFileSync('mkfifo', [join(path, 'pipe')]);
  }

  snapshot(): unknown {
    return contentsOf(this.path, true);
  }
}

/** Names below a folder with what lies there: kind, number, owner, bytes, and when it was written. */
export function contentsOf(folder: string, areFoldersDated = false): unknown {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .sort()
    .map((name) => {
      const path = join(folder, name);
      const stats = lstatSync(path);
      const { ino, mode, uid } = stats;
      const mtimeMs = areFoldersDated || !stats.isDirectory() ? stats.mtimeMs : 0;
      return [name, ino, mode, uid, mtimeMs, stats.isFile() ? readFileSync(path, 'latin1') : ''];
    });
}

export const PLANTS = {
  'a link to a file': (path: string, outside: Outside) => symlinkSync(join(outside.path, 'file'), path),
  'a link to a folder': (path: string, outside: Outside) => symlinkSync(join(outside.path, 'folder'), path),
  'a link to nothing': (path: string, outside: Outside) => symlinkSync(join(outside.path, 'new'), path),
  'a second name of a file': (path: string, outside: Outside) => linkSync(join(outside.path, 'linked'), path),
  // A second name of one pipe, because making a pipe needs a process.
  'a pipe': (path: string, outside: Outside) => linkSync(join(outside.path, 'pipe'), path),
  'a folder': (path: string) => mkdirSync(join(path, 'deep'), { recursive: true }),
  'a file': (path: string) => writeFileSync(path, 'x'),
} satisfies Record<string, (path: string, outside: Outside) => void>;
export type Plant = keyof typeof PLANTS;

/** Puts a plant at a name of a run and replaces what is there. */
export function plant(run: string, name: string, what: Plant, outside: Outside): void {
  const path = join(run, name);
  rmSync(path, { recursive: true, force: true });
  mkdirSync(join(path, '..'), { recursive: true });
  PLANTS[what](path, outside);
}
