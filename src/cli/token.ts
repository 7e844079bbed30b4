import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { readToken, TOKEN_VARIABLE, tokenFromEnvironment } from '../../cluster/access.js';
import { checkToken } from '../../cluster/join-url.js';
import { LantrainError } from '../errors.js';
import { isSystemError, reason } from '../files.js';

/** What is said to who gave the token in an argument. */
export const TOKEN_WAS_SHOWN =
  `remark   the token stood among the arguments: what started this process (npm, a shell) lists it still, to all users ` +
  `of this machine, and so does the shell's history; give it by ${TOKEN_VARIABLE}, --token-file FILE or standard input`;

const MOST_BYTES = 1000;

/** Where a worker's token is to come from. */
export interface TokenSources {
  /** Of the URL. */
  readonly token?: string;
  readonly tokenFile?: string;
}

/**
 * The token of the URL, of a file, of the environment or of standard input, the first that is given. Throws
 * LT_CLUSTER_TOKEN, or LT_USAGE_OPTION where both URL and file have one.
 */
export async function tokenOf({ token, tokenFile }: TokenSources): Promise<string> {
  if (token !== undefined && tokenFile !== undefined)
    throw new LantrainError('LT_USAGE_OPTION', 'the URL has a token and --token-file names another: give one of them');
  if (tokenFile !== undefined) return tokenFromFile(tokenFile);
  return token ?? tokenFromEnvironment() ?? (await askForToken());
}

/** Throws LT_CLUSTER_TOKEN unless `path` is a small regular file with a token; nothing is waited for. */
export function tokenFromFile(path: string): string {
  const refused = (why: string, cause?: unknown) =>
    new LantrainError('LT_CLUSTER_TOKEN', `--token-file ${path} ${why}: give a file that holds the token and no more`, {
      cause,
    });
  const bytes = Buffer.alloc(MOST_BYTES + 1);
  let length: number;
  try {
    // A pipe without a writer would be waited for.
    const file = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
    try {
      if (!fstatSync(file).isFile()) throw refused('is no regular file');
      length = readSync(file, bytes, 0, bytes.length, 0);
    } finally {
      closeSync(file);
    }
  } catch (cause) {
    if (!isSystemError(cause)) throw cause;
    throw refused(`cannot be read, ${reason(cause)}`, cause);
  }
  if (length > MOST_BYTES) throw refused(`has more than ${MOST_BYTES} bytes`);
  return checkToken(bytes.toString('utf8', 0, length), path);
}

/** From whoever sits here or pipes it in: a URL that was found, or is to be seen by others, has none. */
async function askForToken(): Promise<string> {
  if (process.stdin.isTTY) process.stderr.write(`token (${TOKEN_VARIABLE} is not set): `);
  try {
    return await readToken(process.stdin);
  } catch (cause) {
    throw new LantrainError(
      'LT_CLUSTER_TOKEN',
      `no token: paste the whole command that the coordinator printed, or give its token by ${TOKEN_VARIABLE}, ` +
        '--token-file FILE or standard input',
      { cause },
    );
  }
}
