import { lstatSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { LantrainError } from '../errors.js';
import { isSystemError, makeOwnFolder, reason, removeOwn, removeQuietly, replaceOwn } from '../files/files.js';
import { readOwn } from '../files/own-files.js';
import { ownMark } from '../files/state-folder.js';
import { baseOfTemporary } from '../files/temporary-name.js';

const SECRETS = ['token', 'admin-token', 'certificate.pem', 'key.pem'] as const;
export type SecretName = (typeof SECRETS)[number];
/** Values that are not secret. They are checked where they are used. */
export type ValueName = 'port' | 'incarnation';

const MARKS_NAME = 'marks.json';
const NAMES: ReadonlySet<string | undefined> = new Set([...SECRETS, MARKS_NAME, 'port', 'incarnation']);
const MOST_BYTES = 2 ** 16;
const OWNER_ONLY = 0o600;

const Marks = z.partialRecord(z.enum(SECRETS), z.string());
type Marks = z.infer<typeof Marks>;

/**
 * The folder of a run's secrets, readable only by its owner:
 *
 *     token, admin-token, certificate.pem, key.pem
 *     marks.json             says of each of them that this user made it, on this machine, in this folder
 *     port, incarnation      of the last start
 *
 * A person who sends a run knows its secrets, and so does everybody with a copy. A mark therefore depends on things
 * that no copy has: the key in the user's state folder, and this folder's inode number and time of birth. Secrets
 * without fitting marks are removed.
 */
export class SecretFiles {
  readonly #folder: string;
  #marks: Marks;

  private constructor(
    folder: string,
    marks: Marks,
    /** Why secrets were removed, if any were. */
    readonly whyRemoved?: string,
  ) {
    this.#folder = folder;
    this.#marks = marks;
  }

  /** Makes the folder if need be. Throws LT_CLUSTER_ACCESS or LT_RUN_FOREIGN. */
  static open(folder: string): Promise<SecretFiles> {
    return accessible(folder, async () => {
      makeOwnFolder(folder, 0o700);
      for (const name of await readdir(folder))
        if (NAMES.has(baseOfTemporary(name))) await removeQuietly(join(folder, name));
      const marks = readMarks(folder);
      const why = await whyNotOurs(folder, marks);
      if (why === undefined) return new SecretFiles(folder, marks);
      for (const name of [...SECRETS, MARKS_NAME]) await removeOwn(join(folder, name));
      return new SecretFiles(folder, {}, why);
    });
  }

  /** Undefined where there is none. Throws as `open` does. */
  read(name: SecretName): Promise<string | undefined> {
    return accessible(join(this.#folder, name), async () => readText(this.#folder, name));
  }

  /** Writes a secret whole or not at all, never readable by others. Throws as `open` does. */
  async write(name: SecretName, text: string): Promise<void> {
    // Without a key there is no mark, and the next start replaces the secret.
    const mark = await markOf(this.#folder, name, text).catch(() => undefined);
    this.#marks = { ...this.#marks, [name]: mark };
    await writeText(this.#folder, MARKS_NAME, JSON.stringify(this.#marks));
    await writeText(this.#folder, name, text);
  }
}

/** Undefined where there is none. Throws LT_CLUSTER_ACCESS or LT_RUN_FOREIGN. */
export function readValue(folder: string, name: ValueName): Promise<string | undefined> {
  const path = join(folder, name);
  return accessible(path, async () => readOwn(path, MOST_BYTES));
}

/** Makes the folder if need be. Throws LT_CLUSTER_ACCESS or LT_RUN_FOREIGN. */
export async function writeValue(folder: string, name: ValueName, text: string): Promise<void> {
  await accessible(folder, async () => makeOwnFolder(folder, 0o700));
  await writeText(folder, name, text);
}

/** Why the secrets are not ours; undefined where all have fitting marks. */
async function whyNotOurs(folder: string, marks: Marks): Promise<string | undefined> {
  for (const name of SECRETS) {
    const text = readText(folder, name);
    if (text === undefined) continue;
    const mark = marks[name];
    try {
      const fitting = await marksOf(folder, name, text);
      if (mark === undefined) return "the run's secrets are of an earlier version, or of another machine or user";
      if (!fitting.includes(mark)) return 'the run comes from another machine, user or folder';
    } catch (error) {
      return `your state folder cannot be used (${reason(error)}; LANTRAIN_STATE names another), so secrets are not kept`;
    }
  }
  return undefined;
}

/** Where the system has no time of birth, Node gives 0 or the time of the last change. */
function markOf(folder: string, name: SecretName, text: string): Promise<string> {
  const { ino, birthtimeNs, ctimeNs } = lstatSync(folder, { bigint: true });
  return ownMark([name, text, String(ino), birthtimeNs === ctimeNs ? '0' : String(birthtimeNs)]);
}

/** The marks that `markOf` may have made: a new folder looks like one of unknown birth. */
async function marksOf(folder: string, name: SecretName, text: string): Promise<string[]> {
  const { ino, birthtimeNs } = lstatSync(folder, { bigint: true });
  return Promise.all([String(birthtimeNs), '0'].map((birth) => ownMark([name, text, String(ino), birth])));
}

function readMarks(folder: string): Marks {
  try {
    return Marks.parse(JSON.parse(readText(folder, MARKS_NAME) ?? '{}'));
  } catch (error) {
    if (error instanceof LantrainError || isSystemError(error)) throw error;
    return {};
  }
}

function readText(folder: string, name: string): string | undefined {
  return readOwn(join(folder, name), MOST_BYTES, { mode: OWNER_ONLY });
}

function writeText(folder: string, name: string, text: string): Promise<void> {
  const path = join(folder, name);
  return accessible(path, () => replaceOwn(path, (file) => file.writeFile(text), OWNER_ONLY));
}

/** Runs `work`; system errors become LT_CLUSTER_ACCESS. */
export async function accessible<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (!isSystemError(cause)) throw cause;
    throw new LantrainError('LT_CLUSTER_ACCESS', `cannot use ${path}: ${reason(cause)}`, { cause });
  }
}
