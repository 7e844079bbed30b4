import { readToken, TOKEN_VARIABLE } from '../net/access.js';
import { noToken } from '../net/worker-token.js';

/** The warning to a user who gave the token in an argument. */
export const TOKEN_WAS_SHOWN =
  `remark   the token stood among the arguments: what started this process (npm, a shell) lists it still, to all users ` +
  `of this machine, and so does the shell's history; give it by ${TOKEN_VARIABLE}, --token-file FILE or standard input`;

/** Asks for the token on the terminal, or reads it from a pipe: a URL that was found or shown to others has none. */
export async function askForToken(): Promise<string> {
  if (process.stdin.isTTY) process.stderr.write(`token (${TOKEN_VARIABLE} is not set): `);
  try {
    return await readToken(process.stdin);
  } catch (cause) {
    throw noToken(cause);
  }
}
