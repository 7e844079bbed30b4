/**
 * Checks and makes dist/.
 *
 * A stamp in dist/ holds the hash of all sources. The compiler's own record (`--incremental`) is not enough: it ignores
 * the bundles, costs the compiler's start at every command, and leaves the output of removed sources.
 */
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { root, run, Stop, say } from './process.mjs';

const sourceFolders = ['src', 'cluster'];
const bundler = 'scripts/bundle.mjs';
const buildInputs = ['package.json', 'package-lock.json', 'tsconfig.json', 'tsconfig.build.json', bundler];
/** Folders of browsers' code, which is bundled, not compiled file by file. */
const browserFolders = ['src/watch/page/', 'cluster/tab/'];
const stampFile = path.join(root, 'dist', '.setup-stamp');

/** Paths of all files below a folder, relative to the checkout, sorted, with forward slashes. */
function listFiles(folder) {
  let entries;
  try {
    entries = fs.readdirSync(path.join(root, folder), { withFileTypes: true });
  } catch {
    return [];
  }
  return entries
    .flatMap((entry) => {
      const name = `${folder}/${entry.name}`;
      return entry.isDirectory() ? listFiles(name) : [name];
    })
    .sort();
}

/** The compiler's output files, relative to dist/: `src/a.js` for `src/a.ts`. */
function outputs() {
  return sourceFolders
    .flatMap(listFiles)
    .filter((name) => /\.(ts|mjs)$/.test(name) && !/\.d\.m?ts$/.test(name))
    .filter((name) => !browserFolders.some((folder) => name.startsWith(folder)))
    .map((name) => name.replace(/\.ts$/, '.js'));
}

/** Hashes contents, not times: checking out another commit and returning does not cause a build. */
function hashSources() {
  const hash = crypto.createHash('sha256');
  for (const name of [
    ...buildInputs.filter((name) => fs.existsSync(path.join(root, name))),
    ...sourceFolders.flatMap(listFiles),
  ]) {
    const content = fs.readFileSync(path.join(root, name));
    hash.update(`${name} ${content.length}\n`).update(content);
  }
  return hash.digest('hex');
}

export function built() {
  if (!fs.existsSync(stampFile) || fs.readFileSync(stampFile, 'utf8') !== hashSources()) return false;
  return outputs().every((name) => fs.existsSync(path.join(root, 'dist', name)));
}

export async function build() {
  say('building (tsc and esbuild, into dist/)');
  const hash = hashSources();
  fs.rmSync(stampFile, { force: true });
  const args = ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.build.json'];
  if (process.stderr.isTTY) args.push('--pretty');
  const result = await run(process.execPath, args);
  if (result.code !== 0) throw new Stop(`the build failed:\n${result.output.trim()}`);
  if (fs.existsSync(path.join(root, bundler))) {
    const bundled = await run(process.execPath, [bundler]);
    if (bundled.code !== 0) throw new Stop(`bundling the page failed:\n${bundled.output.trim()}`);
  }
  removeStale();
  fs.writeFileSync(stampFile, hash);
}

/** Removes the output of removed sources, and of tests, which are built on demand. */
function removeStale() {
  const wanted = new Set(outputs());
  for (const name of [...sourceFolders, 'test'].flatMap((folder) => listFiles(`dist/${folder}`))) {
    const output = name
      .slice('dist/'.length)
      .replace(/\.map$/, '')
      .replace(/\.d\.(m?)ts$/, '.$1js');
    if (!wanted.has(output)) fs.rmSync(path.join(root, name));
  }
}
