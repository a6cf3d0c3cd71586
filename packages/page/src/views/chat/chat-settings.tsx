import { Field } from '../../components/field.js';
import { type ChatSettings, numbersOf } from './conversation.js';

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

export function ChatSettingsForm({ settings, onChange }: ChatSettingsProps) {
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
