import { closeSync, constants, fstatSync, openSync, readSync, type Stats, statSync } from 'node:fs';
import { constants as system } from 'node:os';

/** More than any file of settings: a config.json has some kilobytes. */
const MOST_JSON_BYTES = 2 ** 24;
const CHUNK_BYTES = 2 ** 16;

export interface RegularFile {
  readonly fd: number;
  /** The stats of the open file, whatever its name refers to by now. */
  readonly stats: Stats;
}

/**
 * Opens a regular file for reading and follows links. The caller closes it. Throws the system's error, without
 * blocking, for pipes, devices, sockets and folders.
 */
export function openRegular(path: string): RegularFile {
  // Merely opening a device may have effects.
  check(path, statSync(path));
  // It may be a pipe by now. Without O_NONBLOCK the open would wait for a writer. Windows has neither flag.
  const { O_RDONLY, O_NONBLOCK = 0, O_NOCTTY = 0 } = constants;
  const fd = openSync(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
  try {
    const stats = fstatSync(fd);
    check(path, stats);
    return { fd, stats };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/**
 * The contents of a file of at most `mostBytes` bytes (default 16 MiB). Bytes that are appended meanwhile are left out.
 * Throws the system's error, EFBIG for a larger file.
 */
export function readRegular(path: string, mostBytes = MOST_JSON_BYTES): Buffer<ArrayBuffer> {
  const { fd, stats } = openRegular(path);
  try {
    if (stats.size > mostBytes) throw tooLarge(path, `it has more than ${mostBytes} bytes`);
    return readUpTo(fd, stats.size);
  } finally {
    closeSync(fd);
  }
}

/** The first `bytes` bytes of a file, fewer where it is shorter. Throws the system's error. */
export function readHead(path: string, bytes: number): Buffer<ArrayBuffer> {
  const { fd, stats } = openRegular(path);
  try {
    return readUpTo(fd, Math.min(bytes, stats.size));
  } finally {
    closeSync(fd);
  }
}

function readUpTo(fd: number, bytes: number): Buffer<ArrayBuffer> {
  const all = Buffer.alloc(bytes);
  let done = 0;
  for (let got = -1; got !== 0 && done < bytes; done += got) got = readSync(fd, all, done, bytes - done, done);
  return all.subarray(0, done);
}

/**
 * The lines of a UTF-8 file without their ends, one by one: only the current line is in memory. Text that is appended
 * meanwhile is left out. Throws the system's error, EFBIG for a line of more than `mostBytes` bytes.
 */
export function* readLines(path: string, mostBytes: number): Generator<string> {
  const { fd, stats } = openRegular(path);
  try {
    const chunk = Buffer.alloc(Math.min(CHUNK_BYTES, stats.size));
    let pieces: Buffer[] = [];
    let length = 0;
    const add = (piece: Buffer) => {
      length += piece.length;
      if (length > mostBytes) throw tooLarge(path, `a line of it has more than ${mostBytes} bytes`);
      pieces.push(piece);
    };
    for (let at = 0; at < stats.size; ) {
      const got = readSync(fd, chunk, 0, Math.min(chunk.length, stats.size - at), at);
      if (got === 0) break;
      at += got;
      let from = 0;
      for (let end = chunk.indexOf(10); end >= 0 && end < got; end = chunk.indexOf(10, from)) {
        add(chunk.subarray(from, end));
        yield Buffer.concat(pieces, length).toString('utf8');
        [pieces, length, from] = [[], 0, end + 1];
      }
      add(Buffer.from(chunk.subarray(from, got)));
    }
    yield Buffer.concat(pieces, length).toString('utf8');
  } finally {
    closeSync(fd);
  }
}

function check(path: string, stats: Stats): void {
  if (stats.isFile()) return;
  if (stats.isDirectory())
    throw refusal(path, 'EISDIR', 'EISDIR: illegal operation on a directory', -system.errno.EISDIR);
  const kind = stats.isFIFO()
    ? 'a pipe'
    : stats.isSocket()
      ? 'a socket'
      : stats.isCharacterDevice() || stats.isBlockDevice()
        ? 'a device'
        : 'no file';
  throw refusal(path, 'EINVAL', `it is ${kind}, and only files on a disk are read`);
}

function tooLarge(path: string, what: string): Error {
  return refusal(path, 'EFBIG', what);
}

/** An error in the form of a system error, so that `reason` works on it. */
function refusal(path: string, code: string, message: string, errno?: number): Error {
  return Object.assign(new Error(message), { code, syscall: 'open', path, ...(errno === undefined ? {} : { errno }) });
}
