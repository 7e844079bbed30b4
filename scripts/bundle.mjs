/**
 * Bundles the browsers' code into dist/page/, as part of `npm run build`: the page, and scripts that it loads when
 * needed. Each file is also stored compressed, so that the server need not compress.
 */
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const folder = join(root, 'dist', 'page');

/** Separate scripts, by the name under which they are served. */
const entries = {
  page: 'src/watch/page/main.ts',
  // Loaded by the page when somebody wants to join.
  'device-panel': 'cluster/tab/panel.ts',
  // The Web Worker that computes for a coordinator.
  'tab-worker': 'cluster/tab/web-worker.ts',
};

rmSync(folder, { recursive: true, force: true });
// Each is bundled separately: otherwise the page would load their shared code at once.
for (const [name, file] of Object.entries(entries)) await bundle(name, file);
await build({
  absWorkingDir: root,
  entryPoints: { page: 'src/watch/page/page.css' },
  outdir: folder,
  bundle: true,
  minify: true,
  logLevel: 'warning',
});
const html = readFileSync(join(root, 'src/watch/page/index.html'), 'utf8');
writeFileSync(join(folder, 'index.html'), html);
for (const name of readdirSync(folder)) {
  const path = join(folder, name);
  writeFileSync(`${path}.gz`, gzipSync(readFileSync(path), { level: 9 }));
}

function bundle(name, file) {
  return build({
    absWorkingDir: root,
    entryPoints: { [name]: file },
    outdir: folder,
    bundle: true,
    // Dynamic imports of the page are loaded on demand.
    splitting: true,
    chunkNames: '[name]-[hash]',
    format: 'esm',
    platform: 'browser',
    target: ['chrome113', 'firefox121', 'safari17'],
    minify: true,
    legalComments: 'none',
    logLevel: 'warning',
    // The page may not make code from text, so zod must not try.
    banner: { js: 'globalThis.__zod_globalConfig={jitless:true};' },
  });
}
