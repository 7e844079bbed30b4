/**
 * The script of `npm run lantrain` and `npm start`: sets up the checkout where needed, then runs the command line in
 * the same process. With package.json's `exec` it is the one process below npm. So a signal to npm (docker stop,
 * systemd) reaches the run, and npm waits for its last checkpoint.
 *
 * Like `setup.mjs`, it uses only syntax that an old Node can parse.
 */
import { prepare } from './setup/setup.mjs';

// Set-up may take minutes, and all users of this machine can list its processes, so the token is hidden now: see
// hide-token.ts.
const line = ['lantrain'].concat(process.argv.slice(2)).join(' ');
const hidden = line.replace(/(:\/\/[^\s#]*#)[\w-]{22,}((\.[\w-]*)?)(\.[\w-]*)?/g, '$1TOKEN$2');
if (hidden !== line) process.title = hidden;

/** A signal that is repeated within this time counts once. */
const copyMs = 500;
const copied = ['SIGINT', 'SIGTERM', 'SIGHUP'];
const lastAt = new Map();

/**
 * Ctrl-C reaches every process of a terminal, also npm, which passes it on to this process: it arrives twice, and a
 * second one would end the run in haste. The same happens to SIGTERM where a service manager sends it to all processes
 * of a service.
 */
const emit = process.emit;
process.emit = function (name, ...rest) {
  if (copied.includes(name)) {
    const now = 1000 * process.uptime();
    if (now - (lastAt.get(name) || -copyMs) < copyMs) return true;
    lastAt.set(name, now);
  }
  return emit.call(this, name, ...rest);
};

prepare(process.env.npm_lifecycle_event === 'start').then(() => import('../dist/src/cli/main.js'));
