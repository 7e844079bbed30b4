import { createHmac, randomBytes } from 'node:crypto';
import { readFileSync, unlinkSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { createFile, isSystemError, makeFolder } from './files.js';
import { readOwn } from './own-files.js';

/** Where the program keeps what is this user's on this machine: $LANTRAIN_STATE, or the platform's own place. */
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
 * A mark of `parts` that only this user on this machine can make: an HMAC under a key that lies in the state folder, made
 * on first use. Who sends a file with a mark in it knows no key that would fit. Throws what the system says, or
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
    // Another process is writing it, or has died while it was.
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

/** A key in a home that several machines share tells them apart by this; only Linux has it as a file. */
function machineId(): string {
  try {
    return readFileSync('/etc/machine-id', 'utf8').trim();
  } catch {
    return '';
  }
}
