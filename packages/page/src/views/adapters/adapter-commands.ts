/** A command to copy, for one way to use an adapter. */
export interface AdapterCommand {
  title: string;
  /** The requirement of the command. */
  note: string;
  text: string;
}

export interface CommandSubject {
  /** Address of the service, with a slash at its end. */
  serviceUrl: string;
  id: string;
  baseModel: string;
  rank: number;
  /** True if requests need a key. The key itself is never written into a command. */
  needsKey: boolean;
}

/** The largest rank that vLLM accepts without being told. */
const VLLM_RANK = 16;

/** Commands that download an adapter and load it elsewhere. They contain ids and names alone, quoted for a shell. */
export function adapterCommands(subject: CommandSubject): AdapterCommand[] {
  const { serviceUrl, id, baseModel, rank, needsKey } = subject;
  const key = needsKey ? ' -H "Authorization: Bearer $LORASMITH_API_KEY"' : '';
  const address = quoted(`${serviceUrl}adapters/${id}`);
  const merged = quoted(`${serviceUrl}adapters/${id}?weights=merged`);
  const gguf = quoted(`${serviceUrl}adapters/${id}?weights=merged&format=gguf&type=q8_0`);
  const folder = `${id}-adapter`;
  const model = `${id}-model`;
  const fetchAdapter = `mkdir -p ${folder} && curl -fsS${key} ${address} | tar -x -C ${folder}`;
  const fetchMerged = `mkdir -p ${model} && curl -fsS${key} ${merged} | tar -x -C ${model}`;
  const base = quoted(`models/${baseModel}`);
  const loraRank = rank > VLLM_RANK ? ` --max-lora-rank ${rank}` : '';
  return [
    {
      title: 'This service',
      note: 'As the OpenAI API does. Any of its clients works, with the id of the adapter as the model.',
      text: `curl -sS${key} -H 'content-type: application/json' ${quoted(`${serviceUrl}v1/chat/completions`)} -d ${quoted(
        JSON.stringify({ model: id, messages: [{ role: 'user', content: 'Hello' }] }),
      )}`,
    },
    {
      title: 'PEFT and transformers',
      note: 'The folder of the base model is the one that the adapter was trained on.',
      text: `${fetchAdapter}
python3 - <<'END'
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(${JSON.stringify(`models/${baseModel}`)})
base = AutoModelForCausalLM.from_pretrained(${JSON.stringify(`models/${baseModel}`)}, dtype="auto")
model = PeftModel.from_pretrained(base, ${JSON.stringify(folder)})
END`,
    },
    {
      title: 'vLLM',
      note: 'Serves the base model and the adapter; ask for the model by the id of the adapter.',
      text: `${fetchAdapter}\nvllm serve ${base} --enable-lora${loraRank} --lora-modules ${id}=./${folder}`,
    },
    {
      title: 'llama.cpp',
      note: 'The merged model as one file, with its tokenizer and chat template.',
      text: `curl -fsS${key} ${gguf} -o ${id}.gguf\nllama-server -m ${id}.gguf`,
    },
    {
      title: 'Ollama',
      note: 'The merged model comes with a Modelfile that has its template.',
      text: `${fetchMerged}\nollama create ${id.replaceAll('_', '-')} -f ${model}/Modelfile`,
    },
    {
      title: 'The command lora',
      note: 'Continues an interrupted download and compares every file with its digest.',
      text: `lora adapters download ${id} -o ${folder}`,
    },
  ];
}

/** The text quoted for a POSIX shell. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
