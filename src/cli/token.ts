import { readToken, TOKEN_VARIABLE } from '../net/access.js';
import { noToken } from '../net/worker-token.js';

/** What is said to who gave the token in an argument. */
export const TOKEN_WAS_SHOWN =
  `remark   the token stood among the arguments: what started this process (npm, a shell) lists it still, to all users ` +
  `of this machine, and so does the shell's history; give it by ${TOKEN_VARIABLE}, --token-file FILE or standard input`;

/** From whoever sits here or pipes it in: a URL that was found, or is to be seen by others, has none. */
export async function askForToken(): Promise<string> {
  if (process.stdin.isTTY) process.stderr.write(`token (${TOKEN_VARIABLE} is not set): `);
  try {
    return await readToken(process.stdin);
  } catch (cause) {
    throw noToken(cause);
  }
}
