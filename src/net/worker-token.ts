import { LantrainError } from '../errors.js';
import { reason } from '../files/files.js';
import { readRegular } from '../files/regular-file.js';
import { TOKEN_VARIABLE, tokenFromEnvironment } from './access.js';
import { checkToken } from './join-url.js';

const MOST_BYTES = 1000;

/** The possible sources of a worker's token. */
export interface TokenSources {
  /** The token in the join URL. */
  readonly url?: string;
  /** A token that was given separately. */
  readonly token?: string;
  /** The path of a file that holds only the token. */
  readonly file?: string;
  /** Called last, for example to ask a user. */
  ask?(): Promise<string>;
}

/**
 * The first token found, in this order: the URL's, the given one, the file's, the environment's, the one that `ask`
 * returns. Throws LT_CLUSTER_TOKEN where there is none or it is malformed, or LT_USAGE_OPTION where more than one of
 * the first three is given.
 */
export async function workerToken({ url, token, file, ask }: TokenSources): Promise<string> {
  const given = token ?? url;
  if (given !== undefined && file !== undefined) {
    const whose = token === undefined ? 'the URL has a token' : 'a token is given';
    throw new LantrainError('LT_USAGE_OPTION', `${whose} and --token-file names another: give one of them`);
  }
  if (token !== undefined && url !== undefined)
    throw new LantrainError('LT_USAGE_OPTION', 'the URL has a token and another is given: give one of them');
  if (file !== undefined) return tokenFromFile(file);
  if (token !== undefined) return checkToken(token, 'the option token');
  const found = url ?? tokenFromEnvironment() ?? (await ask?.());
  if (found === undefined) throw noToken();
  return found;
}

/** The error for a missing token, which says what to do. */
export function noToken(cause?: unknown): LantrainError {
  return new LantrainError(
    'LT_CLUSTER_TOKEN',
    `no token: paste the whole command that the coordinator printed, or give its token by ${TOKEN_VARIABLE}, ` +
      '--token-file FILE or standard input',
    { cause },
  );
}

/**
 * Reads a token file. Throws LT_CLUSTER_TOKEN, without blocking, unless `path` is a small regular file with a token.
 */
function tokenFromFile(path: string): string {
  let text: string;
  try {
    text = readRegular(path, MOST_BYTES).toString('utf8');
  } catch (cause) {
    throw new LantrainError(
      'LT_CLUSTER_TOKEN',
      `--token-file ${path} cannot be read: ${reason(cause)}; give a file that holds the token and no more`,
      { cause },
    );
  }
  return checkToken(text, path);
}
