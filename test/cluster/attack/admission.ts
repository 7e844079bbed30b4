/** Joins of an attacker: as an admitted member, or with its name only. */
import { onlyFromCoordinator, type Welcome } from '../../../cluster/protocol/protocol.js';
import { Worker } from '../../../cluster/worker/worker.js';
import type { LantrainError } from '../../../src/errors.js';
import { type AttackContext, type Authenticated, connectAs, over } from './attack-context.js';
import { HookedConnection, type Hooks } from './hooked-connection.js';

/** An attack. Resolves when it is over; throws the error of a connection that ended before. */
export type Attack = (context: AttackContext) => Promise<void>;

/** Milliseconds that an attacker's worker sleeps after each micro-batch, like the honest one. */
const DRAG_MS = 12;

export interface Admitted extends Authenticated {
  /** Resolves with the error that ended the connection. */
  readonly ended: Promise<LantrainError>;
}

/** Joins as a member that has proved its bit class and has the weights. */
export async function admitted(context: AttackContext, hooks: Hooks, name = context.name): Promise<Admitted> {
  const engines = await context.engines();
  const entered = await connectAs(context);
  let ready = () => {};
  const isReady = new Promise<void>((go) => {
    ready = go;
  });
  const worker = new Worker(new HookedConnection(entered.connection, hooks), {
    engines,
    name,
    drag: DRAG_MS,
    onNote: ({ note }) => {
      if (note === 'ready') ready();
    },
  });
  const ended = worker.run();
  await Promise.race([isReady, untilEnded(context, ended)]);
  context.tell({ told: 'begun' });
  return { ...entered, ended };
}

/** Resolves when the attack is over; throws the error of a connection that ended before. */
export function untilEnded(context: AttackContext, ended: Promise<LantrainError>): Promise<void> {
  return Promise.race([over(context), ended.then((error) => Promise.reject(error))]);
}

/** Sends `join` and receives `welcome`, without proving a bit class. */
export async function introduced(
  context: AttackContext,
): Promise<Authenticated & { readonly welcome: Welcome; readonly ended: Promise<LantrainError> }> {
  const entered = await connectAs(context);
  const { connection } = entered;
  const ended = new Promise<LantrainError>((end) => {
    connection.onClose = end;
  });
  const welcomed = new Promise<Welcome>((welcome) => {
    connection.onControl = onlyFromCoordinator({ welcome, ...DEAF });
  });
  connection.send({ type: 'join', name: context.name, adapter: 'none' });
  const welcome = await Promise.race([welcomed, untilEnded(context, ended)]);
  if (welcome === undefined) throw context.signal.reason;
  return { ...entered, welcome, ended };
}

export const ignore = () => {};
/** Hooks of a member that ignores all messages. */
export const DEAF = { probe: ignore, stop: ignore, admit: ignore, commit: ignore };
