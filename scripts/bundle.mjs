/**
 * Bundles what runs in browsers into dist/page/, part of `npm run build`: the page, and scripts that it loads when they
 * are needed. Each file lies there compressed as well, so that the server only reads.
 */
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const folder = join(root, 'dist', 'page');

/** Scripts of their own, by the name that they are served under. */
const entries = {
  page: 'src/watch/page/main.ts',
  // What the page loads once somebody wants to join.
  'device-panel': 'cluster/tab/panel.ts',
  // The Web Worker that computes for a coordinator.
  'tab-worker': 'cluster/tab/web-worker.ts',
};

rmSync(folder, { recursive: true, force: true });
// Each by itself: what they share, the page would otherwise load whole.
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
    // What the page imports dynamically is loaded when it is asked for.
    splitting: true,
    chunkNames: '[name]-[hash]',
    format: 'esm',
    platform: 'browser',
    target: ['chrome113', 'firefox121', 'safari17'],
    minify: true,
    legalComments: 'none',
    logLevel: 'warning',
    // Code made from text is forbidden to the page, so zod need not try.
    banner: { js: 'globalThis.__zod_globalConfig={jitless:true};' },
  });
}
