// A peer in Node.js with ws; settings in the environment: PORT, AGENT_WS_URL.
import { WebSocket, WebSocketServer } from "ws";

const agentUrl = process.env.AGENT_WS_URL;
const toAgent = (payload) =>
  `{"type":"audio","audio_encoding":"mulaw","sample_rate":8000,"data":"${payload}"}`;

const server = new WebSocketServer({
  host: "127.0.0.1",
  port: Number(process.env.PORT),
  backlog: 4096,
  perMessageDeflate: false,
});

server.on("connection", (caller, request) => {
  const id = request.url.slice(request.url.lastIndexOf("/") + 1);
  let held = [];
  let agent;

  const dial = (streamSid) => {
    agent = new WebSocket(`${agentUrl}/${id}`, { perMessageDeflate: false });
    agent.on("open", () => {
      for (const payload of held) agent.send(toAgent(payload));
      held = undefined;
    });
    agent.on("message", (data) => {
      const message = JSON.parse(data);
      if (message.type === "audio") {
        caller.send(`{"event":"media","streamSid":"${streamSid}","media":{"payload":"${message.data}"}}`);
      } else if (message.type === "interrupt") {
        caller.send(`{"event":"clear","streamSid":"${streamSid}"}`);
      } else if (message.type === "call_ended") {
        agent.close(1000);
      }
    });
    agent.on("close", (code) => caller.close(code === 1000 ? 1000 : 1011));
    agent.on("error", (error) => console.error(`${id}: agent: ${error.message}`));
  };

  caller.on("message", (data) => {
    const message = JSON.parse(data);
    if (message.event === "media") {
      if (held) held.push(message.media.payload);
      else agent.send(toAgent(message.media.payload));
    } else if (message.event === "start") {
      dial(message.start.streamSid);
    } else if (message.event === "stop") {
      agent?.close(1000);
    }
  });
  caller.on("close", () => agent?.close(1000));
  caller.on("error", (error) => console.error(`${id}: caller: ${error.message}`));
});
