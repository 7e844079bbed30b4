/**
 * What `npm run lantrain` and `npm start` start: sets up a checkout that is not, or not any more, ready to run, and is the
 * command line then, in this same process. With package.json's `exec` it is the one process below npm, so that a signal
 * to npm (docker stop, systemd) reaches the run, and npm waits for its last checkpoint.
 *
 * As `setup.mjs`, it keeps to what an old Node can parse.
 */
import { prepare } from './setup/setup.mjs';

// Set-up may take minutes, and all users of this machine can list its processes: see hide-token.ts.
const line = ['lantrain'].concat(process.argv.slice(2)).join(' ');
const hidden = line.replace(/(:\/\/[^\s#]*#)[\w-]{22,}((\.[\w-]*)?)(\.[\w-]*)?/g, '$1TOKEN$2');
if (hidden !== line) process.title = hidden;

/** A signal that comes again within this time is the same one. */
const copyMs = 500;
const copied = ['SIGINT', 'SIGTERM', 'SIGHUP'];
const lastAt = new Map();

/**
 * Ctrl-C reaches every process of a terminal, npm as well, and npm hands it on to this one: it comes twice, and a second
 * one means haste. So does SIGTERM where a service manager sends it to all processes of the service.
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
