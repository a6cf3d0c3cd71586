import { ProductError } from '@lorasmith/contracts';
import type { HubSettings } from './hub-fetch.js';

/** The variables of the environment that say how the hub is reached. They are those of Hugging Face's own tools. */
export const HUB_VARIABLES = {
  endpoint: {
    variable: 'HF_ENDPOINT',
    pattern: '^https?://[A-Za-z0-9.:\\[\\]-]{1,253}/?$',
    fallback: 'https://huggingface.co',
    fault: 'is not an address such as https://host:port',
    read: (value: string) => value.replace(/\/$/, ''),
  },
  token: {
    variable: 'HF_TOKEN',
    pattern: '^[A-Za-z0-9_.-]{0,500}$',
    fallback: '',
    fault: 'is not a token: letters, digits and _.- are allowed',
    read: (value: string) => (value === '' ? null : value),
  },
  offline: {
    variable: 'HF_HUB_OFFLINE',
    pattern: '^(?:0|1|false|true|no|yes|off|on)$',
    fallback: '0',
    fault: 'is neither 0 nor 1',
    read: (value: string) => ['1', 'true', 'yes', 'on'].includes(value),
  },
};

/** The hub that an environment names. @throws ProductError `invalid_request` for a value that it cannot have */
export function hubOfEnvironment(
  environment: Readonly<Record<string, string | undefined>>,
): HubSettings & { offline: boolean } {
  const { endpoint, token, offline } = HUB_VARIABLES;
  return {
    endpoint: readVariable(endpoint, environment),
    token: readVariable(token, environment),
    offline: readVariable(offline, environment),
  };
}

interface HubVariable<Value> {
  variable: string;
  pattern: string;
  fallback: string;
  fault: string;
  read: (value: string) => Value;
}

function readVariable<Value>(
  { variable, pattern, fallback, fault, read }: HubVariable<Value>,
  environment: Readonly<Record<string, string | undefined>>,
): Value {
  // Some tools set an empty variable. It means none.
  const text = environment[variable] || fallback;
  if (new RegExp(pattern).test(text)) return read(text);
  throw new ProductError('invalid_request', `${variable} ${fault}.`, { param: variable });
}
