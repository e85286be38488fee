// A peer in Go with gorilla/websocket; settings in the environment: PORT, AGENT_WS_URL.
package main

import (
	"encoding/json"
	"log"
	"net/http"
	"os"
	"path"
	"time"

	"github.com/gorilla/websocket"
)

type fromCaller struct {
	Event string `json:"event"`
	Start struct {
		StreamSid string `json:"streamSid"`
	} `json:"start"`
	Media struct {
		Payload string `json:"payload"`
	} `json:"media"`
}

type fromAgent struct {
	Type string `json:"type"`
	Data string `json:"data"`
}

var upgrader = websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}

func closeWith(connection *websocket.Conn, code int) {
	text := websocket.FormatCloseMessage(code, "")
	_ = connection.WriteControl(websocket.CloseMessage, text, time.Now().Add(time.Second))
}

// Each direction of a call is a goroutine, which is the only writer of messages on its socket.
func serve(w http.ResponseWriter, r *http.Request) {
	caller, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		log.Print(err)
		return
	}
	defer caller.Close()
	var message fromCaller
	for message.Event != "start" {
		if err := caller.ReadJSON(&message); err != nil {
			log.Print(err)
			return
		}
	}
	streamSid := message.Start.StreamSid
	// Meanwhile the caller's audio waits in the socket.
	agent, _, err := websocket.DefaultDialer.Dial(os.Getenv("AGENT_WS_URL")+"/"+path.Base(r.URL.Path), nil)
	if err != nil {
		log.Print(err)
		closeWith(caller, 1011)
		return
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		agentToCaller(agent, caller, streamSid)
		agent.Close()
	}()
	callerToAgent(caller, agent)
	closeWith(agent, 1000)
	_ = agent.SetReadDeadline(time.Now().Add(5 * time.Second))
	<-ended
}

func callerToAgent(caller, agent *websocket.Conn) {
	for {
		_, text, err := caller.ReadMessage()
		if err != nil {
			return
		}
		var message fromCaller
		if err := json.Unmarshal(text, &message); err != nil {
			return
		}
		switch message.Event {
		case "media":
			audio := `{"type":"audio","audio_encoding":"mulaw","sample_rate":8000,"data":"` + message.Media.Payload + `"}`
			if agent.WriteMessage(websocket.TextMessage, []byte(audio)) != nil {
				return
			}
		case "stop":
			closeWith(agent, 1000)
		}
	}
}

func agentToCaller(agent, caller *websocket.Conn, streamSid string) {
	defer closeWith(caller, 1000)
	for {
		_, text, err := agent.ReadMessage()
		if err != nil {
			return
		}
		var message fromAgent
		if err := json.Unmarshal(text, &message); err != nil {
			return
		}
		answer := ""
		switch message.Type {
		case "audio":
			answer = `{"event":"media","streamSid":"` + streamSid + `","media":{"payload":"` + message.Data + `"}}`
		case "interrupt":
			answer = `{"event":"clear","streamSid":"` + streamSid + `"}`
		case "call_ended":
			return
		default:
			continue
		}
		if caller.WriteMessage(websocket.TextMessage, []byte(answer)) != nil {
			return
		}
	}
}

func main() {
	http.HandleFunc("/media/", serve)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
