Ms=[list_to_atom(S)||S<-string:tokens("@MODULES@"," ")],
Ps=release_handler_1:get_supervised_procs(),
W=fun(X)->io_lib:format("~w",[X])end,
Own=fun(P,M)->lists:any(fun({_,_,Q,L})->Q=:=P andalso is_list(L) andalso lists:member(M,L);(_)->false end,Ps)end,
Dyn=fun(P)->lists:any(fun({_,_,Q,dynamic})->Q=:=P;(_)->false end,Ps)end,
Con=fun(M)->erlang:function_exported(M,code_change,3) orelse erlang:function_exported(M,system_code_change,4)end,
Of=fun(P)->case catch proc_lib:translate_initial_call(P) of{M,_,_}->M;_->undefined end end,
L=fun(K,Vs)->[K,[[9,W(V)]||V<-Vs],10]end,
binary_to_list(base64:encode(zlib:compress(unicode:characters_to_binary([
[L("missed",[M,P])||P<-processes(),M<-[Of(P)],lists:member(M,Ms),Con(M),not Own(P,M),not Dyn(P)],
[L("lingering",[M,P])||M<-Ms,erlang:check_old_code(M),P<-processes(),erlang:check_process_code(P,M)=:=true],
[L("queue",[M,P,element(2,process_info(P,message_queue_len))])||{_,_,P,X}<-Ps,is_pid(P),is_process_alive(P),is_list(X),M<-X,lists:member(M,Ms)],
[L("missing",[S,I])||S<-lists:usort([S||{S,_,_,_}<-Ps]),is_pid(S),is_process_alive(S),{I,undefined,_,_}<-supervisor:which_children(S)]
])))).
