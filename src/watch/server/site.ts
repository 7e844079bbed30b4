import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import type { RequestListener } from 'node:http';
import { extname, join } from 'node:path';

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
};

/**
 * Allows scripts, styles and connections of this origin only, and nothing inline. A name or a sample cannot become
 * code, and the page makes no request to other machines.
 */
const HEADERS = {
  'Content-Security-Policy': [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "worker-src 'self'",
    "img-src 'self' data:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; '),
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
  // The files of a build belong together, so each is revalidated; mostly it is not sent again.
  'Cache-Control': 'no-cache',
  // By this a worker recognizes the server when it was given the page's URL, or ws for wss.
  Server: 'lantrain',
};

interface Asset {
  readonly type: string;
  readonly tag: string;
  readonly plain: Buffer;
  readonly gzip: Buffer;
}

/**
 * Serves the bundled page from `folder` (dist/page of the package). The page contains nothing of a run: that is sent
 * over the WebSocket, to clients that prove the token.
 */
export function serveSite(folder: string): RequestListener {
  const assets = readAssets(folder);
  return (request, response) => {
    const refuse = (status: number, text: string) => {
      response.writeHead(status, { ...HEADERS, 'Content-Type': 'text/plain; charset=utf-8' });
      response.end(`${text}\n`);
    };
    if (request.method !== 'GET' && request.method !== 'HEAD') return refuse(405, 'There is nothing to send here.');
    const asset = assets.get((request.url ?? '/').split('?')[0]);
    if (asset === undefined) return refuse(404, 'There is nothing at that path.');
    const headers = { ...HEADERS, 'Content-Type': asset.type, ETag: asset.tag, Vary: 'Accept-Encoding' };
    if (request.headers['if-none-match'] === asset.tag) {
      response.writeHead(304, headers).end();
      return;
    }
    const zipped = /\bgzip\b/.test(request.headers['accept-encoding'] ?? '');
    const body = zipped ? asset.gzip : asset.plain;
    response.writeHead(200, {
      ...headers,
      'Content-Length': body.length,
      ...(zipped ? { 'Content-Encoding': 'gzip' } : {}),
    });
    response.end(request.method === 'HEAD' ? undefined : body);
  };
}

/** The files by path, read at the start: no path of a request reaches the file system. */
function readAssets(folder: string): ReadonlyMap<string, Asset> {
  const assets = new Map<string, Asset>();
  if (!existsSync(folder)) return assets;
  for (const name of readdirSync(folder)) {
    const type = TYPES[extname(name)];
    if (type === undefined) continue;
    const plain = readFileSync(join(folder, name));
    const tag = `"${createHash('sha256').update(plain).digest('base64url').slice(0, 22)}"`;
    const asset = { type, tag, plain, gzip: readFileSync(join(folder, `${name}.gz`)) };
    assets.set(name === 'index.html' ? '/' : `/${name}`, asset);
  }
  return assets;
}
