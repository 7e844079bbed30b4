import { LantrainError } from '../errors.js';
import { reason } from '../files/files.js';
import { readRegular } from '../files/regular-file.js';
import { readToken, TOKEN_VARIABLE, tokenFromEnvironment } from '../net/access.js';
import { checkToken } from '../net/join-url.js';

/** What is said to who gave the token in an argument. */
export const TOKEN_WAS_SHOWN =
  `remark   the token stood among the arguments: what started this process (npm, a shell) lists it still, to all users ` +
  `of this machine, and so does the shell's history; give it by ${TOKEN_VARIABLE}, --token-file FILE or standard input`;

const MOST_BYTES = 1000;

/** Where a worker's token is to come from. */
interface TokenSources {
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
