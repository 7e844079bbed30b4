import { z } from 'zod';
import { listenAddress } from '../src/node/lan-address.js';
import { option } from '../src/train/option-table.js';
import { DEFAULT_LIMITS } from './transport/limits.js';

const name = z.string().min(1);

/** The options that `coordinator` has in addition to those of a run. */
export const CLUSTER_OPTIONS = {
  /** Address of workers and page, `HOST:PORT`. Default: every address, port 7070 or the next free one. */
  listen: option(name, {
    topic: 'Workers',
    value: '<host:port>',
    help: 'where workers join; port 0 takes a free one',
    defaultWords: 'every address, port 7070 or the next free one',
    check: (text) => void listenAddress(text),
  }),
  /** Workers that must be connected before the first step; 1 by default. */
  minWorkers: option(z.number().int().min(1).max(DEFAULT_LIMITS.connections), {
    topic: 'Workers',
    value: '<n>',
    help: 'workers that must be there before the first step',
    default: 1,
  }),
  /** Refuses workers that do not compute the same bits as this machine's adapter. */
  exact: option(z.boolean(), {
    topic: 'Workers',
    help: "refuse workers that compute other bits than this machine's adapter",
    default: false,
  }),
  /** The fraction of contributions that are computed again to check them, 0 to 1. */
  audit: option(z.number().min(0).max(1), {
    topic: 'Workers',
    value: '<share>',
    help: 'share of what workers send that is computed again to check it, 0 to 1',
    default: 0,
  }),
  /** Allows ws without TLS to other machines. */
  plain: option(z.boolean(), {
    topic: 'Workers',
    help: 'ws without TLS, also to other machines',
    default: false,
  }),
  /** Files of your own certificate and its key, PEM. */
  cert: option(name, { topic: 'Workers', value: '<file>', help: 'your own certificate, PEM; needs --key' }),
  key: option(name, { topic: 'Workers', value: '<file>', help: 'its key, PEM, not encrypted' }),
} as const;

/** The most workers that `demo` starts on one machine. */
const MOST_LOCAL_WORKERS = 64;

/** The options that `demo` has in addition to those of a run. */
export const DEMO_OPTIONS = {
  /** Workers to start, each a process of its own; 2 by default. */
  workers: option(z.number().int().min(1).max(MOST_LOCAL_WORKERS), {
    topic: 'Workers',
    value: '<n>',
    help: 'workers to start',
    default: 2,
  }),
} as const;
