/** What every step of set-up uses: the checkout's place, messages, commands, and an end that leaves nothing behind. */
import childProcess from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** The checkout. */
export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..');

/** A step that cannot be done: its message goes to the user as it is, and set-up exits 1. */
export class Stop extends Error {}

/** Functions that remove what must not outlive this process: the lock, temporary folders. */
export const cleanups = new Set();
const children = new Set();
/** Set once a signal asked for the end. */
let exitCode;

/** To stderr: stdout belongs to the command that set-up goes before. */
export function say(text) {
  process.stderr.write(`set-up: ${text}\n`);
}

/** Says what ended set-up: the message of what was expected, the stack of what was not. */
export function tell(error) {
  const expected = error instanceof Stop || typeof error.code === 'string';
  say(expected ? error.message : error.stack);
}

/** Packages may run commands of their own when they are installed: the token is not for them. */
export const childEnvironment = Object.assign({}, process.env);
delete childEnvironment.LANTRAIN_TOKEN;

/**
 * Runs a command to its end and prints nothing.
 * @param options those of `spawn`, and `timeoutMs`, after which the command is killed
 * @returns `{ code, stdout, stderr, output }`, `output` being both streams as they came; the code is -1 where the command
 *   could not be started or was ended by a signal
 */
export function run(command, args, options = {}) {
  const { timeoutMs, ...spawnOptions } = options;
  return new Promise((resolve) => {
    const child = childProcess.spawn(command, args, {
      cwd: root,
      env: childEnvironment,
      stdio: ['ignore', 'pipe', 'pipe'],
      windowsHide: true,
      ...spawnOptions,
    });
    children.add(child);
    const timer = timeoutMs === undefined ? undefined : setTimeout(() => child.kill('SIGKILL'), timeoutMs);
    const result = { code: -1, stdout: '', stderr: '', output: '' };
    const finish = (code) => {
      clearTimeout(timer);
      children.delete(child);
      if (exitCode === undefined) resolve({ ...result, code });
      else if (children.size === 0) process.exit(exitCode);
    };
    for (const stream of ['stdout', 'stderr']) {
      child[stream].setEncoding('utf8').on('data', (text) => {
        result[stream] += text;
        result.output += text;
      });
    }
    child.on('error', (error) => {
      result.output += error.message;
      finish(-1);
    });
    child.on('close', (code, signal) => {
      if (code === null) result.output += `\nended by ${signal}`;
      finish(code === null ? -1 : code);
    });
  });
}

function cleanUp() {
  for (const cleanup of cleanups) cleanup();
}

/** npm and apt put things in order before they end; the lock is kept until they have, unless asked twice. */
function stopAt(code) {
  if (exitCode !== undefined || children.size === 0) process.exit(code);
  exitCode = code;
  for (const child of children) child.kill();
}

/**
 * From here on signals end set-up in order, and so does an exit.
 * @returns what takes that back
 */
export function endInOrder() {
  const handlers = { SIGINT: () => stopAt(130), SIGTERM: () => stopAt(143), exit: cleanUp };
  for (const [name, handler] of Object.entries(handlers)) process.on(name, handler);
  return () => {
    for (const [name, handler] of Object.entries(handlers)) process.removeListener(name, handler);
  };
}
