import type { ModelSource } from '@lorasmith/base-models';
import { type BaseModel, type ModelName, ProductError } from '@lorasmith/contracts';
import {
  type ClientSession,
  hasExpired,
  type SessionCheckpoint,
  type TrainedModel,
  type TrainingSessionStore,
} from '@lorasmith/queue';
import { type Caller, mayUse } from '@lorasmith/service-kit';
import { type CheckpointName, pathOf, sessionOf } from './tinker-names.js';

/** Sessions, models and checkpoints as their caller may see them. Each call throws ProductError `not_found` for another's. */
export class OwnSessions {
  readonly #store: TrainingSessionStore;
  readonly #baseModels: ModelSource;

  constructor({ store, baseModels }: { store: TrainingSessionStore; baseModels: ModelSource }) {
    this.#store = store;
    this.#baseModels = baseModels;
  }

  async session(id: string, caller: Caller): Promise<ClientSession> {
    const session = await this.#store.session(id);
    if (session === null || !mayUse(caller, session.owner)) throw missing('session', id);
    return session;
  }

  /** A session that has not ended. @throws ProductError `invalid_request` */
  async openSession(id: string, caller: Caller): Promise<ClientSession> {
    const session = await this.session(id, caller);
    if (session.ended === null) return session;
    throw new ProductError('invalid_request', `The session has ended: ${session.ended} Create a new service client.`);
  }

  async model(id: string, caller: Caller): Promise<TrainedModel> {
    const model = sessionOf(id) === null ? null : await this.#store.model(id);
    if (model === null || !mayUse(caller, model.owner)) throw missing('model', id);
    return model;
  }

  /** A checkpoint of the caller's, or one that its owner has published. */
  async checkpoint(
    name: CheckpointName,
    caller: Caller,
  ): Promise<{ model: TrainedModel; checkpoint: SessionCheckpoint }> {
    const model = sessionOf(name.model) === null ? null : await this.#store.model(name.model);
    const checkpoint = model === null ? null : await this.#store.checkpoint(name.model, name);
    if (model === null || checkpoint === null || hasExpired(checkpoint)) throw missing('checkpoint', pathOf(name));
    if (!checkpoint.public && !mayUse(caller, model.owner)) throw missing('checkpoint', pathOf(name));
    return { model, checkpoint };
  }

  /**
   * The base model that a client names: by its name here, by the repository that it was pulled from, or by the last part of that.
   * @throws ProductError `model_not_found`, `model_not_supported`
   */
  async baseModel(name: string): Promise<BaseModel> {
    const models = await this.#baseModels.list();
    const last = name.slice(name.lastIndexOf('/') + 1);
    const found =
      models.find((model) => model.name === name) ??
      models.find(({ origin }) => origin?.repo === name) ??
      models.find((model) => model.name === last);
    if (found === undefined) {
      const names = models.map((model) => model.name).slice(0, 20);
      const message = `There is no base model ${JSON.stringify(name.slice(0, 200))} here. There are: ${names.join(', ')}.`;
      throw new ProductError('model_not_found', message);
    }
    if (found.problem !== null) {
      throw new ProductError('model_not_supported', `${found.name} cannot be used: ${found.problem.message}`);
    }
    if (found.family === 'classifier') {
      throw new ProductError('model_not_supported', `${found.name} is a classifier of features, not a language model.`);
    }
    return found;
  }

  /** The repository of the tokenizer of a base model, or the base model's name. */
  async tokenizerOf(name: ModelName): Promise<string> {
    const { origin } = await this.#baseModels.describe(name);
    return origin?.repo ?? name;
  }

  async usableModels(): Promise<BaseModel[]> {
    return (await this.#baseModels.list()).filter(({ problem, family }) => problem === null && family !== 'classifier');
  }
}

function missing(what: string, id: string): ProductError {
  return new ProductError('not_found', `There is no ${what} ${JSON.stringify(id.slice(0, 200))}. It may have expired.`);
}
