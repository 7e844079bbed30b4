/** How a member comes in: with its bit class and the weights, or by its name alone. */
import { onlyFromCoordinator, type Welcome } from '../../../cluster/protocol/protocol.js';
import { Worker } from '../../../cluster/worker/worker.js';
import type { LantrainError } from '../../../src/errors.js';
import { BentConnection, type Hooks } from './bent.js';
import { type Entered, enterAs, over, type Seat } from './seat.js';

/** Ends with the attack; throws why a connection ended before. */
export type Attack = (seat: Seat) => Promise<void>;

/** Milliseconds that a worker which computes sleeps after each micro-batch, as the honest one does. */
const DRAG_MS = 12;

export interface Admitted extends Entered {
  /** Why it ended. */
  readonly ended: Promise<LantrainError>;
}

/** A member that has shown its bit class and has the weights. */
export async function admitted(seat: Seat, hooks: Hooks, name = seat.name): Promise<Admitted> {
  const engines = await seat.engines();
  const entered = await enterAs(seat);
  let ready = () => {};
  const isReady = new Promise<void>((go) => {
    ready = go;
  });
  const worker = new Worker(new BentConnection(entered.connection, hooks), {
    engines,
    name,
    drag: DRAG_MS,
    onNote: ({ note }) => {
      if (note === 'ready') ready();
    },
  });
  const ended = worker.run();
  await Promise.race([isReady, untilEnded(seat, ended)]);
  seat.tell({ told: 'begun' });
  return { ...entered, ended };
}

/** Resolves when the attack is over; throws why the connection ended before. */
export function untilEnded(seat: Seat, ended: Promise<LantrainError>): Promise<void> {
  return Promise.race([over(seat), ended.then((error) => Promise.reject(error))]);
}

/** Says its name, and is told of the run, without showing a bit class. */
export async function introduced(
  seat: Seat,
): Promise<Entered & { readonly welcome: Welcome; readonly ended: Promise<LantrainError> }> {
  const entered = await enterAs(seat);
  const { connection } = entered;
  const ended = new Promise<LantrainError>((end) => {
    connection.onClose = end;
  });
  const welcomed = new Promise<Welcome>((welcome) => {
    connection.onControl = onlyFromCoordinator({ welcome, ...DEAF });
  });
  connection.send({ type: 'join', name: seat.name, adapter: 'none' });
  const welcome = await Promise.race([welcomed, untilEnded(seat, ended)]);
  if (welcome === undefined) throw seat.signal.reason;
  return { ...entered, welcome, ended };
}

export const ignore = () => {};
/** Whoever has these takes what comes and does nothing. */
export const DEAF = { probe: ignore, stop: ignore, admit: ignore, commit: ignore };
