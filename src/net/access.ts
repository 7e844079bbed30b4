import { createHash, createPrivateKey, type KeyObject, randomBytes, X509Certificate } from 'node:crypto';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { createSecureContext } from 'node:tls';
import { LantrainError } from '../errors.js';
import { readRegular } from '../files/regular-file.js';
import { checkToken } from './join-url.js';
import { accessible, readValue, SecretFiles, type SecretName, writeValue } from './secret-files.js';

/** 192 bits. */
const TOKEN_BYTES = 24;
const CERTIFICATE_YEARS = 20;
export const TOKEN_VARIABLE = 'LANTRAIN_TOKEN';

/** The token in the environment variable LANTRAIN_TOKEN, if it is set. */
export function tokenFromEnvironment(environment: NodeJS.ProcessEnv = process.env): string | undefined {
  const text = environment[TOKEN_VARIABLE];
  return text === undefined || text === '' ? undefined : checkToken(text, TOKEN_VARIABLE);
}

/** The first line of a stream, such as standard input. */
export async function readToken(input: AsyncIterable<Buffer | string>): Promise<string> {
  let text = '';
  for await (const chunk of input) {
    text += chunk;
    if (text.trimStart().includes('\n') || text.length > 1000) break;
  }
  return checkToken(text.trim().split('\n')[0], 'standard input');
}

export function newToken(): string {
  return randomBytes(TOKEN_BYTES).toString('base64url');
}

/** SHA-256, base64url, of the DER bytes of a certificate; of the first one in a PEM chain. */
export function fingerprintOf(certificate: string | Uint8Array): string {
  const der = typeof certificate === 'string' ? new X509Certificate(certificate).raw : certificate;
  return createHash('sha256').update(der).digest('base64url');
}

/** What a coordinator keeps so that its join URL stays valid after a restart. */
export interface Access {
  readonly token: string;
  /** The token for controlling the run from its page. */
  readonly admin: string;
  /** PEM. */
  readonly certificate: string;
  readonly key: string;
  readonly fingerprint: string;
  /** The port of the last start. */
  readonly port?: number;
  /** A line for the owner where secrets of somebody else were replaced by new ones. */
  readonly remark?: string;
}

export interface AccessOptions {
  /** Paths of the user's own certificate (or chain) and key, PEM. */
  readonly cert?: string;
  readonly key?: string;
  /** Replaces the token that is kept or made. */
  readonly token?: string;
}

/**
 * Reads tokens, certificate, key and port from `folder`. Makes what is missing and stores it there, readable only by
 * the owner. Secrets that this user did not make in this folder are replaced. The user's own certificate is not copied.
 * Throws LT_CLUSTER_ACCESS, LT_CLUSTER_CERTIFICATE or LT_RUN_FOREIGN.
 */
export async function loadOrCreateAccess(folder: string, options: AccessOptions = {}): Promise<Access> {
  const secrets = await SecretFiles.open(folder);
  const kept = await keptToken(secrets, folder, 'token');
  const token = options.token ?? kept ?? newToken();
  if (token !== kept) await secrets.write('token', token);
  const keptAdmin = await keptToken(secrets, folder, 'admin-token');
  const admin = keptAdmin ?? newToken();
  if (admin !== keptAdmin) await secrets.write('admin-token', admin);
  const isOwn = options.cert !== undefined;
  const pair = isOwn ? await ownPair(options.cert, options.key) : await keptPair(secrets, folder);
  const port = await readPort(folder);
  const made = isOwn ? 'new token' : 'new token, new certificate';
  const { whyRemoved } = secrets;
  return {
    token,
    admin,
    ...pair,
    ...(port === undefined ? {} : { port }),
    ...(whyRemoved === undefined ? {} : { remark: `${whyRemoved}: ${made}; links from before do not work` }),
  };
}

/** The port of the last start, if there was one. Throws LT_CLUSTER_ACCESS or LT_RUN_FOREIGN. */
export async function readPort(folder: string): Promise<number | undefined> {
  return wholeNumber(await readValue(folder, 'port'), 65535);
}

export async function savePort(folder: string, port: number): Promise<void> {
  await writeValue(folder, 'port', String(port));
}

/** A frame has 32 bits for the incarnation. */
const MOST_STARTS = 2 ** 31 - 1;

/**
 * The number of coordinator starts of the run; 0 where there was none. Throws LT_CHECKPOINT_CORRUPT where the file
 * holds an impossible value, LT_CLUSTER_ACCESS or LT_RUN_FOREIGN.
 */
export async function readIncarnation(folder: string): Promise<number> {
  const text = await readValue(folder, 'incarnation');
  if (text === undefined) return 0;
  const count = wholeNumber(text, MOST_STARTS - 1);
  if (count !== undefined) return count;
  throw new LantrainError(
    'LT_CHECKPOINT_CORRUPT',
    `${join(folder, 'incarnation')} counts the starts of a coordinator, and is no whole number below ${MOST_STARTS}; remove it`,
  );
}

export async function saveIncarnation(folder: string, incarnation: number): Promise<void> {
  await writeValue(folder, 'incarnation', `${incarnation}\n`);
}

/** A whole number from 1 to `most`; undefined for any other text. */
function wholeNumber(text: string | undefined, most: number): number | undefined {
  const number = /^[1-9]\d{0,9}\n?$/.test(text ?? '') ? Number(text) : 0;
  return number > 0 && number <= most ? number : undefined;
}

/** The path of the file with the admin token. */
export function adminTokenFile(folder: string): string {
  return join(folder, 'admin-token' satisfies SecretName);
}

async function keptToken(secrets: SecretFiles, folder: string, name: SecretName): Promise<string | undefined> {
  const text = await secrets.read(name);
  return text === undefined ? undefined : checkToken(text, join(folder, name));
}

type Pair = Pick<Access, 'certificate' | 'key' | 'fingerprint'>;

async function keptPair(secrets: SecretFiles, folder: string): Promise<Pair> {
  const [certificate, key] = [await secrets.read('certificate.pem'), await secrets.read('key.pem')];
  if (certificate !== undefined && key !== undefined) return checkPair(certificate, key, folder);
  const made = await selfSigned();
  await secrets.write('key.pem', made.key);
  await secrets.write('certificate.pem', made.certificate);
  return made;
}

/**
 * Reads and checks the user's own certificate and key. Throws LT_CLUSTER_ACCESS where they cannot be read,
 * LT_CLUSTER_CERTIFICATE where they are unusable.
 */
export async function ownPair(certificatePath: string, keyPath: string | undefined): Promise<Pair> {
  if (keyPath === undefined)
    throw new LantrainError('LT_CLUSTER_CERTIFICATE', 'a certificate of your own needs its key; add --key FILE');
  const text = (path: string) => accessible(path, async () => readRegular(path).toString('utf8'));
  const [certificate, key] = [await text(certificatePath), await text(keyPath)];
  const bad = (why: string, cause?: unknown) => new LantrainError('LT_CLUSTER_CERTIFICATE', why, { cause });
  if (/-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(certificate) && !certificate.includes(CERTIFICATE_HEAD))
    throw bad(`${certificatePath} holds a key, not a certificate; exchange --cert and --key`);
  if (!certificate.includes(CERTIFICATE_HEAD)) throw bad(`${certificatePath} is no certificate in PEM`);
  if (/-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: 4,ENCRYPTED/m.test(key))
    throw bad(`the key ${keyPath} is encrypted; give it without a passphrase, as openssl pkey writes it`);
  if (!/-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(key)) throw bad(`${keyPath} is no private key in PEM`);
  let parsed: X509Certificate;
  let secret: KeyObject;
  try {
    parsed = new X509Certificate(certificate);
  } catch (cause) {
    throw bad(`the certificate ${certificatePath} is damaged`, cause);
  }
  try {
    secret = createPrivateKey(key);
  } catch (cause) {
    throw bad(`the key ${keyPath} is damaged`, cause);
  }
  if (!parsed.checkPrivateKey(secret))
    throw bad(`the key ${keyPath} does not belong to the certificate ${certificatePath}; give the pair`);
  return checkPair(certificate, key, certificatePath);
}

const CERTIFICATE_HEAD = '-----BEGIN CERTIFICATE-----';

/** Why others will not trust a certificate (PEM), by its dates; undefined where the dates are fine. */
export function certificateWarning(certificate: string, now: Date = new Date()): string | undefined {
  const { validFrom, validTo } = new X509Certificate(certificate);
  const day = (text: string) => new Date(text).toISOString().slice(0, 10);
  if (now > new Date(validTo)) return `the certificate expired on ${day(validTo)}: browsers will not let it pass`;
  if (now < new Date(validFrom))
    return `the certificate is valid from ${day(validFrom)} on, which this machine's clock says is to come`;
  return undefined;
}

function checkPair(certificate: string, key: string, where: string): Pair {
  try {
    createSecureContext({ cert: certificate, key });
    return { certificate, key, fingerprint: fingerprintOf(certificate) };
  } catch (cause) {
    const message = `the certificate and key of ${where} do not work together; give both in PEM, or remove them`;
    throw new LantrainError('LT_CLUSTER_CERTIFICATE', message, { cause });
  }
}

async function selfSigned(): Promise<Pair> {
  const notAfterDate = new Date();
  notAfterDate.setFullYear(notAfterDate.getFullYear() + CERTIFICATE_YEARS);
  // Loaded only where a run needs a new certificate.
  const { generate } = await import('selfsigned');
  const pair = await generate([{ name: 'commonName', value: 'lantrain' }], {
    keyType: 'ec',
    curve: 'P-256',
    algorithm: 'sha256',
    notAfterDate,
    extensions: [
      { name: 'basicConstraints', cA: false, critical: true },
      { name: 'keyUsage', digitalSignature: true, critical: true },
      { name: 'extKeyUsage', serverAuth: true },
      {
        name: 'subjectAltName',
        altNames: [
          { type: 2, value: 'localhost' },
          { type: 2, value: hostname() },
          { type: 7, ip: '127.0.0.1' },
        ],
      },
    ],
  });
  return { certificate: pair.cert, key: pair.private, fingerprint: fingerprintOf(pair.cert) };
}
