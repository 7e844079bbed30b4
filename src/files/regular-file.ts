import { closeSync, constants, fstatSync, openSync, readSync, type Stats, statSync } from 'node:fs';
import { constants as system } from 'node:os';

/** Beyond any file of settings; a config.json has some kilobytes. */
const MOST_JSON_BYTES = 2 ** 24;
const CHUNK_BYTES = 2 ** 16;

export interface RegularFile {
  readonly fd: number;
  /** Of the file that is open, whatever its name stands for by now. */
  readonly stats: Stats;
}

/**
 * Opens a file on a disk for reading, links followed. Throws an error of the system, at once, for whatever has no end or
 * waits for somebody: pipes, devices, sockets; and for folders.
 */
export function openRegular(path: string): RegularFile {
  // To open a device may do something already.
  check(path, statSync(path));
  // It may be a pipe by now, which without O_NONBLOCK would wait for a writer. Windows has neither flag.
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
 * All of a file of at most `mostBytes`, as long as it was when it was opened: what is added meanwhile is left out. Throws
 * an error of the system, EFBIG for a larger one.
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

/** The first `bytes` bytes of a file, fewer where it is shorter. Throws an error of the system. */
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
 * The lines of a UTF-8 text as long as it was when it was opened, without their ends, one after another: only the line in
 * hand is in memory. Throws an error of the system, EFBIG for a line of more than `mostBytes`.
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

/** An error as the system's own are, whose words `reason` tells. */
function refusal(path: string, code: string, message: string, errno?: number): Error {
  return Object.assign(new Error(message), { code, syscall: 'open', path, ...(errno === undefined ? {} : { errno }) });
}
