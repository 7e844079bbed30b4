import { createHmac, randomBytes } from 'node:crypto';
import { readFileSync, unlinkSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { createFile, isSystemError, makeFolder } from './files.js';
import { readOwn } from './own-files.js';

/** The folder for this user's state on this machine: $LANTRAIN_STATE, or the platform's usual folder. */
function stateFolder(): string {
  const { LANTRAIN_STATE, XDG_STATE_HOME, LOCALAPPDATA } = process.env;
  if (LANTRAIN_STATE) return LANTRAIN_STATE;
  if (XDG_STATE_HOME) return join(XDG_STATE_HOME, 'lantrain');
  if (process.platform === 'darwin') return join(homedir(), 'Library', 'Application Support', 'lantrain');
  if (process.platform === 'win32')
    return join(LOCALAPPDATA ?? join(homedir(), 'AppData', 'Local'), 'lantrain', 'state');
  return join(homedir(), '.local', 'state', 'lantrain');
}

const KEY_NAME = 'key';
const KEY_BYTES = 32;
const MOST_BYTES = 2 ** 16;
const KEY = /^[\w-]{43}\n$/;
const MOST_TRIES = 100;
const RETRY_MS = 10;

/**
 * A mark of `parts` that only this user on this machine can make: an HMAC under a key in the state folder, which is
 * made on first use. A person who sends a file with a mark does not know the key. Throws the system's error or
 * LT_RUN_FOREIGN.
 */
export async function ownMark(parts: readonly string[]): Promise<string> {
  const identity = [machineId(), String(process.getuid?.() ?? '')];
  return createHmac('sha256', await ownKey())
    .update(JSON.stringify([...identity, ...parts]))
    .digest('base64url');
}

async function ownKey(): Promise<string> {
  const folder = stateFolder();
  const path = join(folder, KEY_NAME);
  makeFolder(folder, 0o700);
  for (let tries = 1; ; tries++) {
    const text = readOwn(path, MOST_BYTES, { mode: 0o600 });
    if (text !== undefined && KEY.test(text)) return text;
    if (text === undefined) makeKey(path);
    // Another process is writing the key, or died while writing it.
    else if (tries < MOST_TRIES) await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    else unlinkSync(path);
  }
}

function makeKey(path: string): void {
  try {
    createFile(path, `${randomBytes(KEY_BYTES).toString('base64url')}\n`, 0o600);
  } catch (error) {
    // Another process was faster.
    if (!isSystemError(error) || error.code !== 'EEXIST') throw error;
  }
}

/**
 * Tells machines apart that share a home, and so a key. Empty where the system has no such file (only Linux has one).
 */
function machineId(): string {
  try {
    return readFileSync('/etc/machine-id', 'utf8').trim();
  } catch {
    return '';
  }
}
