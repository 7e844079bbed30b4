/** Proofs of a token by HMAC-SHA-256 over a statement and both sides' nonces. Runs in Node and in browsers. */
export const NONCE_BYTES = 32;
export const PROOF_BYTES = 32;

/** What is proved: a context that no other kind of proof begins with, and the connection's nonces in a fixed order. */
export interface Statement {
  readonly words: string;
  readonly nonces: readonly [Uint8Array, Uint8Array];
}

export function randomNonce(): Uint8Array<ArrayBuffer> {
  return crypto.getRandomValues(new Uint8Array(NONCE_BYTES));
}

export function importToken(token: string) {
  const algorithm = { name: 'HMAC', hash: 'SHA-256' };
  return crypto.subtle.importKey('raw', new TextEncoder().encode(token), algorithm, false, ['sign', 'verify']);
}

export type TokenKey = Awaited<ReturnType<typeof importToken>>;

export async function sign(key: TokenKey, statement: Statement): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.sign('HMAC', key, bytesOf(statement)));
}

/** Takes the same time for every proof, as WebCrypto's verification of an HMAC does. */
export function verify(key: TokenKey, statement: Statement, proof: Uint8Array): Promise<boolean> {
  return crypto.subtle.verify('HMAC', key, Uint8Array.from(proof), bytesOf(statement));
}

function bytesOf({ words, nonces: [first, second] }: Statement): Uint8Array<ArrayBuffer> {
  const prefix = new TextEncoder().encode(words);
  const bytes = new Uint8Array(prefix.length + first.length + second.length);
  bytes.set(prefix);
  bytes.set(first, prefix.length);
  bytes.set(second, prefix.length + first.length);
  return bytes;
}
