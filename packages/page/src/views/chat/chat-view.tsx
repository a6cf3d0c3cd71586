import { ViewHead } from '../../components/view-head.js';

export function ChatView() {
  return (
    <>
      <ViewHead title="Chat" />
      <p>
        Adapters are asked with <code>lora chat</code> or <code>POST /v1/chat/completions</code>.
      </p>
    </>
  );
}
