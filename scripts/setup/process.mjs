/** Shared by the steps of set-up: the checkout's path, messages, commands, and cleaning up at the end. */
import childProcess from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** The checkout's folder. */
export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..');

/** Thrown by a step that cannot be done. Its message is shown to the user, and set-up exits with 1. */
export class Stop extends Error {}

/** Functions that are called at the end, to remove the lock and temporary folders. */
export const cleanups = new Set();
const children = new Set();
/** Set once a signal has asked for the end. */
let exitCode;

/** Prints to stderr, because stdout belongs to the command that runs after set-up. */
export function say(text) {
  process.stderr.write(`set-up: ${text}\n`);
}

/** Prints what ended set-up: the message of a Stop, the stack of another error. */
export function tell(error) {
  const expected = error instanceof Stop || typeof error.code === 'string';
  say(expected ? error.message : error.stack);
}

/** Without the token: packages may run commands when they are installed. */
export const childEnvironment = Object.assign({}, process.env);
delete childEnvironment.LANTRAIN_TOKEN;

/**
 * Runs a command to its end and prints nothing.
 * @param options options of `spawn`, and `timeoutMs`, after which the command is killed
 * @returns `{ code, stdout, stderr, output }`. `output` is both streams in the order of their arrival. The code is -1
 *   where the command could not be started or was ended by a signal
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

/** npm and apt clean up before they end. The lock is kept until then, unless a second signal arrives. */
function stopAt(code) {
  if (exitCode !== undefined || children.size === 0) process.exit(code);
  exitCode = code;
  for (const child of children) child.kill();
}

/**
 * From now on signals and exits clean up.
 * @returns a function that undoes this
 */
export function endInOrder() {
  const handlers = { SIGINT: () => stopAt(130), SIGTERM: () => stopAt(143), exit: cleanUp };
  for (const [name, handler] of Object.entries(handlers)) process.on(name, handler);
  return () => {
    for (const [name, handler] of Object.entries(handlers)) process.removeListener(name, handler);
  };
}
