import type { Adapter, BaseModel } from '@lorasmith/contracts';
import { useState } from 'preact/hooks';
import { ErrorNotice, Loaded } from '../../components/error-notice.js';
import { Field } from '../../components/field.js';
import { ViewHead, type ViewProps } from '../../components/view.js';
import { changeQuery, Link } from '../../location.js';
import { useClient } from '../../service/service.js';
import { usePolled } from '../../service/use-polled.js';
import { type Answer, type ChatSettings, numbersOf, SIDES, type Side } from './conversation.js';
import { RowSuggestions, useRowQuestions, useSystemOf } from './row-suggestions.js';
import { type Chat, useChat } from './use-chat.js';

const LISTED_ADAPTERS = 100;

/** Asks an adapter, and next to it its base model and another adapter of that. */
export function ChatView({ query }: ViewProps) {
  const client = useClient();
  const chat = useChat();
  const wanted = query.get('model') ?? '';
  const alone = query.get('alone') === 'yes';
  const wantedSecond = query.get('second') ?? '';
  const [sought, setSought] = useState(wanted);
  const known = usePolled(
    async (signal) => {
      const [models, page, chosen] = await Promise.all([
        client.models({ signal }),
        client.listAdapters({ limit: LISTED_ADAPTERS }, { signal }),
        // It may be older than those that are listed.
        sought.startsWith('ad_') ? client.manifest(sought, { signal }).catch(() => null) : null,
      ]);
      const listed = page.data.map(({ id, name, base_model }) => ({ id, name, base_model }));
      const missing = chosen !== null && !listed.some(({ id }) => id === chosen.id);
      const adapters = missing
        ? [{ id: chosen.id, name: chosen.name, base_model: chosen.base_model.name }, ...listed]
        : listed;
      return { models: models.filter(answers), adapters };
    },
    [client, sought],
    { everyMs: null },
  );
  // A choice among those that are known loads nothing anew: the conversation stays in sight.
  const isUnknown = known.value?.adapters.some(({ id }) => id === wanted) === false && wanted.startsWith('ad_');
  if (isUnknown && sought !== wanted) setSought(wanted);
  return (
    <>
      <ViewHead title="Chat" />
      <Loaded from={known} what="the models">
        {({ models, adapters }) => {
          const model = wanted || adapters[0]?.id || models[0]?.name || '';
          const adapter = adapters.find(({ id }) => id === model);
          const seconds = adapters.filter(({ id, base_model }) => id !== model && base_model === adapter?.base_model);
          const second = seconds.find(({ id }) => id === wantedSecond);
          if (model === '') {
            return (
              <p>
                There is no model to talk to yet. <Link to="/models">Get a base model</Link>
              </p>
            );
          }
          return (
            <>
              <div class="chat-form">
                <ModelChoice model={model} models={models} adapters={adapters} />
                {adapter !== undefined && (
                  <label class="checkbox">
                    <input
                      type="checkbox"
                      checked={!alone}
                      onChange={(event) => changeQuery({ alone: event.currentTarget.checked ? undefined : 'yes' })}
                    />{' '}
                    beside its base model, {adapter.base_model}
                  </label>
                )}
                {seconds.length > 0 && <SecondChoice second={second?.id ?? ''} adapters={seconds} />}
              </div>
              <ChatSettingsForm settings={chat.conversation.settings} onChange={chat.changeSettings} />
              <Talk
                adapter={adapter?.id}
                chat={chat}
                models={
                  new Map<Side, string>([
                    ...(adapter !== undefined && !alone ? [['base', adapter.base_model] as const] : []),
                    ['adapter', model],
                    ...(second === undefined ? [] : [['second', second.id] as const]),
                  ])
                }
                nameOf={(one) => adapters.find(({ id }) => id === one)?.name ?? one}
              />
            </>
          );
        }}
      </Loaded>
    </>
  );
}

/** Classifiers and broken models answer nothing. */
const answers = ({ problem, family }: BaseModel) => problem === null && family !== 'classifier';

interface ModelChoiceProps {
  model: string;
  models: readonly BaseModel[];
  adapters: readonly Pick<Adapter, 'id' | 'name' | 'base_model'>[];
}

function ModelChoice({ model, models, adapters }: ModelChoiceProps) {
  const isKnown = models.some(({ name }) => name === model) || adapters.some(({ id }) => id === model);
  return (
    <Field label="Model" error={isKnown ? undefined : 'There is no such model, or it cannot answer.'}>
      {(input) => (
        <select
          {...input}
          value={model}
          onChange={(event) => changeQuery({ model: event.currentTarget.value, second: undefined })}
        >
          {!isKnown && <option value={model}>{model}</option>}
          <optgroup label="Adapters">
            {adapters.map(({ id, name, base_model }) => (
              <option key={id} value={id}>
                {name === null ? id : `${name} (${id})`} on {base_model}
              </option>
            ))}
          </optgroup>
          <optgroup label="Base models">
            {models.map(({ name }) => (
              <option key={name} value={name}>
                {name}
              </option>
            ))}
          </optgroup>
        </select>
      )}
    </Field>
  );
}

interface SecondChoiceProps {
  /** Empty: none. */
  second: string;
  /** The other adapters of the same base model. */
  adapters: readonly Pick<Adapter, 'id' | 'name'>[];
}

function SecondChoice({ second, adapters }: SecondChoiceProps) {
  return (
    <Field label="Second adapter">
      {(input) => (
        <select
          {...input}
          value={second}
          onChange={(event) => changeQuery({ second: event.currentTarget.value || undefined })}
        >
          <option value="">none</option>
          {adapters.map(({ id, name }) => (
            <option key={id} value={id}>
              {name === null ? id : `${name} (${id})`}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}

interface TalkProps {
  /** The adapter that was trained, if one is chosen. */
  adapter: string | undefined;
  chat: Chat;
  models: ReadonlyMap<Side, string>;
  nameOf: (model: string) => string;
}

function Talk({ adapter, chat, models, nameOf }: TalkProps) {
  const [text, setText] = useState('');
  const { turns, settings } = chat.conversation;
  const { questions, isHeldOut } = useRowQuestions(adapter);
  useSystemOf(questions, turns.length === 0 && settings.system === '', (system) =>
    chat.changeSettings({ ...settings, system }),
  );
  const isRight = Object.keys(numbersOf(settings).faults).length === 0;
  const canSend = text.trim() !== '' && !chat.isBusy && isRight;
  const sides = SIDES.filter((side) => models.has(side));
  const send = () => {
    if (!canSend) return;
    chat.send(text, models);
    setText('');
  };
  return (
    <>
      {turns.map((turn) => (
        <section key={turn.id} class="card" aria-label={`Turn ${turn.id}`}>
          <p class="chat-speaker">You</p>
          <p class="chat-text">{turn.user}</p>
          <div class={sides.length > 1 ? 'chat-sides' : undefined}>
            {sides.map((side) => {
              const model = turn.answers[side]?.model ?? models.get(side)!;
              return (
                <ChatAnswer
                  key={side}
                  model={nameOf(model)}
                  answer={turn.answers[side]}
                  error={chat.errorOf(turn.id, side)}
                  onRetry={chat.isBusy ? null : () => chat.retry(turn.id, side, model)}
                />
              );
            })}
          </div>
          <ExpectedAnswer answer={questions.find(({ question }) => question === turn.user)?.answer} />
        </section>
      ))}
      {!chat.isBusy && isRight && (
        <RowSuggestions questions={questions} isHeldOut={isHeldOut} onAsk={(question) => chat.send(question, models)} />
      )}
      <form
        class="card chat-message"
        onSubmit={(event) => {
          event.preventDefault();
          send();
        }}
      >
        <Field label="Your message" help="Enter sends it; Shift and Enter begin a new line.">
          {(input) => (
            <textarea
              {...input}
              rows={3}
              value={text}
              onInput={(event) => setText(event.currentTarget.value)}
              onKeyDown={(event) => {
                if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
                event.preventDefault();
                send();
              }}
            />
          )}
        </Field>
        <div class="buttons">
          <button type="submit" class="primary" disabled={!canSend}>
            Send
          </button>
          <button type="button" disabled={!chat.isBusy} onClick={chat.stop}>
            Stop
          </button>
          <button type="button" disabled={turns.length === 0} onClick={chat.clear}>
            New conversation
          </button>
        </div>
      </form>
    </>
  );
}

function ExpectedAnswer({ answer }: { answer: string | undefined }) {
  if (answer === undefined) return null;
  return (
    <p class="chat-expected">
      <span class="muted">The dataset says: </span>
      {answer}
    </p>
  );
}

interface ChatAnswerProps {
  /** The model whose answer it is. */
  model: string;
  answer: Answer | undefined;
  error: unknown;
  /** Null while something is being answered. */
  onRetry: (() => void) | null;
}

const STATE_TEXTS = {
  streaming: 'answering …',
  done: '',
  cut: 'cut off at the maximum of tokens',
  stopped: 'stopped',
  failed: 'failed',
} as const;

/** One answer, as text. A screen reader says it when it is complete. */
function ChatAnswer({ model, answer, error, onRetry }: ChatAnswerProps) {
  const state = answer?.state;
  const note = state === undefined ? 'not asked' : STATE_TEXTS[state];
  const isIncomplete = state === undefined || state === 'failed' || state === 'stopped';
  return (
    <div class="chat-answer">
      <p class="chat-speaker">{model}</p>
      <div aria-live="polite" aria-busy={state === 'streaming'}>
        <p class="chat-text">{answer?.text}</p>
        {note !== '' && <p class="fine-print">{note}</p>}
      </div>
      {error !== undefined ? (
        <ErrorNotice error={error} what="No complete answer" {...(onRetry === null ? {} : { onRetry })} />
      ) : (
        isIncomplete &&
        onRetry !== null && (
          <div>
            <button type="button" aria-label={`Ask again: ${model}`} onClick={onRetry}>
              Ask again
            </button>
          </div>
        )
      )}
    </div>
  );
}

export interface ChatSettingsProps {
  settings: ChatSettings;
  onChange: (settings: ChatSettings) => void;
}

const NUMBERS: readonly { name: keyof ChatSettings; label: string; help: string }[] = [
  { name: 'temperature', label: 'Temperature', help: '0: always the most likely token. Empty: 1.' },
  { name: 'topP', label: 'Top p', help: 'Of the most likely tokens. Empty: 1.' },
  { name: 'maxTokens', label: 'Maximum tokens', help: 'Of an answer.' },
  { name: 'seed', label: 'Seed', help: 'The same seed gives the same answer. Empty: random.' },
];

function ChatSettingsForm({ settings, onChange }: ChatSettingsProps) {
  const { faults } = numbersOf(settings);
  return (
    <>
      <Field label="System message" help="Empty: none.">
        {(input) => (
          <textarea
            {...input}
            rows={2}
            value={settings.system}
            onInput={(event) => onChange({ ...settings, system: event.currentTarget.value })}
          />
        )}
      </Field>
      <details class="card">
        <summary>Settings</summary>
        <div class="chat-form">
          {NUMBERS.map(({ name, label, help }) => (
            <Field key={name} label={label} help={help} error={faults[name]}>
              {(input) => (
                <input
                  {...input}
                  inputMode="decimal"
                  autoComplete="off"
                  value={settings[name]}
                  onInput={(event) => onChange({ ...settings, [name]: event.currentTarget.value })}
                />
              )}
            </Field>
          ))}
        </div>
      </details>
    </>
  );
}
